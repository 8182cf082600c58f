"""`Rescaled`: what a weight decay becomes in another run, source by source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torchdecay.errors import UnitError
from torchdecay.observe.units.sources import Source
from torchdecay.records import JsonRecord
from torchdecay.tables import Shown
from torchdecay.text import spelled


@dataclass(frozen=True, kw_only=True)
class Version:
    """What one rule makes of a weight decay.

    Attributes:
        rule: its name.
        formula: what goes with what.
        value: the new weight decay, in the form of the old one.
        source: who says so; None for an exponent of the user's own.
        remark: what it keeps or takes for granted; "" for an exponent of the user's own.
    """

    rule: str
    formula: str
    value: float
    source: Source | None
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class Rescaled(Shown, JsonRecord, kind="rescaled"):
    """A weight decay in another run, by each rule that applies; made by `td.rescale`.

    Attributes:
        before: the old weight decay.
        form: "decoupled", "independent" or "per_step"; old and new are both meant so.
        versions: one per rule.
        left_out: rules that need to know more, and what.
    """

    before: float
    form: str
    versions: tuple[Version, ...]
    left_out: tuple[str, ...] = ()

    _derived: ClassVar[tuple[str, ...]] = ("value", "agree")

    def __post_init__(self) -> None:
        if not self.versions:
            raise UnitError("no rule applies.")

    @property
    def low(self) -> float:
        """The smallest of the new values."""
        return min(one.value for one in self.versions)

    @property
    def high(self) -> float:
        """The largest of the new values."""
        return max(one.value for one in self.versions)

    @property
    def agree(self) -> bool:
        """Whether all rules give the same, to nine digits."""
        return math.isclose(self.low, self.high, rel_tol=1e-9)

    @property
    def value(self) -> float | None:
        """The new weight decay; None where rules disagree, and one has to be chosen."""
        return self.versions[0].value if self.agree else None

    def __str__(self) -> str:
        if self.agree:
            head = f"{self.form}({spelled(self.before)}) becomes {self.form}({self.low:.6g})"
            head += "." if len(self.versions) == 1 else f" by all {len(self.versions)} rules that apply."
        else:
            head = f"{self.form}({spelled(self.before)}): the sources disagree, from {self.low:.4g} to {self.high:.4g}."
        lines = [head]
        widest = max(len(one.rule) for one in self.versions)
        for one in self.versions:
            lines.append(f"  {one.rule:<{widest}}  {one.value:<10.4g}  {one.formula}")
            if one.source is not None:
                lines.append(" " * (widest + 4) + f"{one.remark}: {one.source}")
        lines += [f"  left out: {one}" for one in self.left_out]
        if not self.agree:
            lines.append('  Choose one with rule="...", or width_exponent=..., and check it with a short sweep.')
        return "\n".join(lines)
