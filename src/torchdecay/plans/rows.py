"""One row of a plan: what happens to one parameter, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torchdecay.encoding import value_type
from torchdecay.plans.decay import Decay
from torchdecay.plans.parameters import Named, Parameter


@value_type
@dataclass(frozen=True, kw_only=True)
class Row(Named):
    """What happens to one parameter, and why.

    Attributes:
        names: canonical names; more than one for a tied weight.
        shape: sizes.
        dtype: torch's spelling without the prefix.
        role: what the parameter is for (see `torchdecay.role`).
        kind: what sort of weight it is, or "".
        decay: its Decay, or None when it is spared.
        reason: the rule that decided, in words.
        evidence: what spoke for the role.
        options: other keys of its parameter group, as (key, value) pairs.
        explicit: whether a rule of one's own decided the decay, and neither a policy's rule nor the plan's default.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    role: str
    reason: str
    dtype: str = "float32"
    kind: str = ""
    decay: Decay | None = None
    evidence: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    explicit: bool = False

    @classmethod
    def of(cls, parameter: Parameter, **decided: Any) -> Row:
        """The row of a parameter, with what was decided: decay, reason, options and explicit."""
        return cls(
            names=parameter.names,
            shape=parameter.shape,
            dtype=parameter.dtype,
            role=parameter.role,
            kind=parameter.kind,
            evidence=parameter.evidence,
            **decided,
        )
