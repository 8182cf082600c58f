"""One parameter as a plan sees it: a value, read once from the model, that selectors and rules look at."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

ROLES = (
    "weight",
    "bias",
    "norm",
    "scale",
    "embedding",
    "position",
    "token",
    "state_space",
    "scalar",
    "unknown",
)
"""What a parameter can be for. Recurrent, expert and adapter matrices are of role `weight`; `kind` tells them apart."""

KINDS = ("matrix", "kernel", "recurrent", "expert", "adapter")
"""What sort of weight a parameter of role `weight` is."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter's names, shape and role, with the evidence for the role.

    Attributes:
        names: canonical names (wrapper prefixes removed), the first one being the name that the plan uses; more
            than one when the weight is tied.
        shape: sizes, as torch gives them.
        dtype: torch's spelling without the prefix: "float32".
        role: one of `ROLES`: what the parameter is for.
        roles: the role at each use, in the order of `names`; equal entries unless the weight is tied across roles.
        kind: one of `KINDS` for a weight, else "".
        evidence: short sentences that say what spoke for the role, strongest first.
        classes: qualified class names of the modules that own it, most derived class first
            ("torch.nn.modules.linear.Linear"), bases included, so that a rule can name a class.
        trainable: whether it requires a gradient.
        exempt: how the model itself asks for no decay ("no_weight_decay()", "tag _no_weight_decay"), else "".
        radial: |⟨w, g⟩| / (‖w‖ ‖g‖) where a gradient was there when the model was read, else None.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str = "float32"
    role: str = "unknown"
    roles: tuple[str, ...] = ()
    kind: str = ""
    evidence: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    trainable: bool = True
    exempt: str = ""
    radial: float | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The name that the plan uses: the first one."""
        return self.names[0]

    @property
    def num_elements(self) -> int:
        """How many numbers the parameter holds."""
        return math.prod(self.shape)
