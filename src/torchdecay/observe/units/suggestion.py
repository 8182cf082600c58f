"""`Suggestion`: a starting value for weight decay, a range to sweep, and where both come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torchdecay.observe.units.sources import Source
from torchdecay.plans.decay import Decay
from torchdecay.plans.forms.l2 import decoupled
from torchdecay.records import JsonRecord
from torchdecay.tables import Shown


@dataclass(frozen=True, kw_only=True)
class Suggestion(Shown, JsonRecord, kind="suggestion"):
    """A decoupled weight decay to start from, and a range around it; made by `td.suggest`.

    Attributes:
        value: λ of w ← w − lr·λ·w, AdamW's weight_decay.
        low: where a sweep may begin.
        high: where it may end.
        rule: "timescale", "tokens_per_parameter" or "inherit".
        formula: how the value follows from the run.
        timescale: 1/(lr·λ) in steps, at the peak of the learning rate.
        timescale_epochs: the same in epochs; None when that is not known.
        source: who says so.
        remarks: what of this model and run lies outside what the source looked at, and what else to know.
        others: what the other rules that apply suggest.
    """

    value: float
    low: float
    high: float
    rule: str
    formula: str
    timescale: float
    timescale_epochs: float | None
    source: Source
    remarks: tuple[str, ...] = ()
    others: tuple[Suggestion, ...] = ()

    _derived: ClassVar[tuple[str, ...]] = ("form",)

    @property
    def form(self) -> str:
        """The form of decay that `value` is of."""
        return "decoupled"

    @property
    def decay(self) -> Decay:
        """The value as a `Decay`, for `td.plan` and `td.attach`."""
        return decoupled(self.value)

    def __str__(self) -> str:
        epochs = "" if self.timescale_epochs is None else f", {self.timescale_epochs:,.3g} epochs"
        lines = [
            f"decoupled({self.value:.3g}), to sweep from {self.low:.3g} to {self.high:.3g}",
            f"  rule {self.rule}: {self.formula}",
            f"  time scale: {self.timescale:,.4g} steps{epochs}",
            f"  source: {self.source}; looked at {self.source.looked_at}",
        ]
        lines += [f"  * {remark}" for remark in self.remarks]
        for other in self.others:
            lines.append(f"  rule {other.rule} says {other.value:.3g}, from {other.low:.3g} to {other.high:.3g}")
        return "\n".join(lines)
