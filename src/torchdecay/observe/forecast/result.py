"""What `torchdecay.forecast` says, as values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torchdecay.errors import UnitError
from torchdecay.observe.forecast.equilibrium import Equilibrium
from torchdecay.observe.forecast.predictability import Prediction
from torchdecay.observe.forecast.remarks import Remark
from torchdecay.records import JsonRecord
from torchdecay.tables import FOLD, RIGHT, Entries, Printed, rich_table, rich_text
from torchdecay.text import first_of, group_label, nearest, percent, step_count

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_GRAVE = ("diverges", "sign flip", "rounded away", "not at work")


@dataclass(frozen=True)
class Curve:
    """Some steps of the run, from its start to its end.

    Attributes:
        steps: from 0 to the number of steps.
        log_retention: ln|w/w₀| of a weight without gradient before that step; −∞ where nothing is left.
        lr: the learning rate of that step, of the last one at the end; None where nobody knows it.
    """

    steps: tuple[int, ...]
    log_retention: tuple[float, ...]
    lr: tuple[float, ...] | None

    def __post_init__(self) -> None:
        if {len(self.steps)} != {len(one) for one in (self.log_retention, self.lr) if one is not None}:
            raise ValueError("a curve whose steps and numbers differ in count")

    def log_retention_at(self, step: int) -> float:
        """Between its steps along a straight line."""
        after = next(i for i, known in enumerate(self.steps) if known >= step)
        if self.steps[after] == step or math.isinf(self.log_retention[after]):
            return self.log_retention[after]
        low, high = self.steps[after - 1], self.steps[after]
        share = (step - low) / (high - low)
        return (1 - share) * self.log_retention[after - 1] + share * self.log_retention[after]


@dataclass(frozen=True, kw_only=True)
class GroupForecast:
    """What one decay will do to the parameters of one group that it pulls.

    Attributes:
        optimizer: its class, "" for a plan by itself.
        optimizer_index: which of the optimizers.
        index: which group; for a plan by itself, which of its different pulls.
        names: of the parameters.
        sizes: their numbers of elements.
        dtypes: torch's spelling without the prefix.
        decay: as the plan or the optimizer spells it; "none".
        prediction: "exact"; "at most", where the pull acts on what it does not say beforehand; "unknown", and then
            every number below is None: nothing is guessed.
        why: what a bound or an unknown depends on, or what an exact number is a part of.
        num_steps: of the run, as far as it is to come.
        first_step: steps of the run that a scheduler has behind it already.
        steps_per_epoch: None when that is not known.
        max_lr: the highest learning rate of the run.
        fraction: of each weight, per step, the mean over the run; under momentum once that has settled.
        max_fraction: the largest of any step.
        half_life: steps until half of a weight without gradient is left, at the mean pace; infinite without decay.
        timescale: steps over which weights average their updates, 1/fraction.
        total_shrink: 1 − ∏(1 − c_t·λ_t), of a weight without gradient, over the run; above 1 where its sign ends
            flipped.
        equilibrium: of scale-invariant weights, at the step that takes most; None where no equations are known.
        equilibrium_step: by which step of the forecast they get there; None when not within the run.
        curve: log-retention and learning rate over the run.
        remarks: what is worth knowing.
    """

    optimizer: str
    optimizer_index: int
    index: int
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    dtypes: tuple[str, ...]
    decay: str
    prediction: Prediction
    why: str
    num_steps: int
    first_step: int
    steps_per_epoch: int | None
    max_lr: float | None
    fraction: float | None
    max_fraction: float | None
    half_life: float | None
    timescale: float | None
    total_shrink: float | None
    equilibrium: Equilibrium | None
    equilibrium_step: int | None
    curve: Curve | None = field(repr=False)
    remarks: tuple[Remark, ...]
    # One number per step: in memory only.
    _logs: Sequence[float] | None = field(default=None, repr=False, compare=False)

    @property
    def num_elements(self) -> int:
        """How many numbers it pulls."""
        return sum(self.sizes)

    @property
    def half_life_epochs(self) -> float | None:
        """The half-life in passes over the data; None when it or the length of an epoch is not known."""
        return self._epochs(self.half_life)

    @property
    def timescale_epochs(self) -> float | None:
        """The time scale in passes over the data; None when it or the length of an epoch is not known."""
        return self._epochs(self.timescale)

    def norm(
        self, name: str, *, gradient_norm: float | None = None, shape: Sequence[int] | None = None
    ) -> float | None:
        """‖w‖ at rest of one of the parameters, if it is scale-invariant; None where no equations are known.

        Args:
            name: of the parameter.
            gradient_norm: for SGD, see `Equilibrium.norm`.
            shape: for Muon, its rows and columns.

        Raises:
            UnitError: no such parameter here, SGD without `gradient_norm`, or Muon without `shape`.
        """
        if name not in self.names:
            raise UnitError(f'the group has no parameter "{name}".', fix=nearest(name, self.names))
        if self.equilibrium is None:
            return None
        return self.equilibrium.norm(self.sizes[self.names.index(name)], gradient_norm=gradient_norm, shape=shape)

    def log_retention_at(self, step: int) -> float | None:
        """ln|w/w₀| of a weight without gradient after so many steps; None where it is unknown.

        A forecast knows every step; one that was read from JSON goes along straight lines between the steps of
        its curve.

        Args:
            step: from 0 to `num_steps`.

        Raises:
            UnitError: outside that range.
        """
        if not 0 <= step <= self.num_steps:
            raise UnitError(f"step is {step}, and the forecast goes from 0 to {self.num_steps}.")
        if self._logs is not None:
            return self._logs[step]
        return None if self.curve is None else self.curve.log_retention_at(step)

    def retention_at(self, step: int) -> float | None:
        """|w/w₀| of a weight without gradient after so many steps; see `log_retention_at`."""
        log = self.log_retention_at(step)
        try:
            return None if log is None else math.exp(log)
        except OverflowError:
            return math.inf

    def _epochs(self, steps: float | None) -> float | None:
        return None if steps is None or not self.steps_per_epoch else steps / self.steps_per_epoch


@dataclass(frozen=True, kw_only=True, repr=False)
class Forecast(Entries[GroupForecast], Printed, JsonRecord, kind="forecast"):
    """`torchdecay.forecast`: one entry per group and decay; prints as a table.

    `to_json` writes the curves at up to 257 steps.

    Attributes:
        groups: the entries.
        num_steps: optimizer steps of the run.
        steps_per_epoch: None when that is not known.
        schedule: the learning rate's, in words.
    """

    groups: tuple[GroupForecast, ...]
    num_steps: int
    steps_per_epoch: int | None
    schedule: str

    def of(self, name: str) -> GroupForecast:
        """The entry that has this parameter.

        Raises:
            UnitError: no entry has it.
        """
        for group in self.groups:
            if name in group.names:
                return group
        names = [one for group in self.groups for one in group.names]
        raise UnitError(f'the forecast has no parameter "{name}".', fix=nearest(name, names))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        heads = ("per step", "half-life", "time scale", "gone at the end", "rotation at peak")
        columns = [*((head, FOLD) for head in ("group", "parameters", "decay")), *((head, RIGHT) for head in heads)]
        several = any(group.optimizer_index for group in self.groups)
        labels = [group_label(one.optimizer, one.optimizer_index, one.index, several=several) for one in self.groups]
        yield rich_table(columns, map(_cells, self.groups, labels))
        yield ""
        yield rich_text((self._run, "dim"))
        for group, label in zip(self.groups, labels, strict=True):
            for remark in group.remarks:
                where = label if group.optimizer else f"group {group.index}"
                tone = "red" if remark.kind in _GRAVE else "yellow"
                yield rich_text((f"{where}, {group.decay}: ", "bold"), (f"{remark.kind}: ", tone), remark.text)

    @property
    def _run(self) -> str:
        epochs = ""
        if self.steps_per_epoch is not None:
            epochs = f", {self.num_steps / self.steps_per_epoch:.4g} epochs of {self.steps_per_epoch:,}"
        return f"Run: {self.num_steps:,} steps{epochs}; learning rate: {self.schedule}."


def _cells(group: GroupForecast, label: str) -> list[str]:
    cells = [label, first_of(group.names), group.decay]
    if group.decay == "none" and not group.remarks:
        return [*cells, *[""] * 5]
    most, least = ("≤ ", "≥ ") if group.prediction == "at most" else ("", "")
    return [
        *cells,
        "?" if group.fraction is None else f"{most}{group.fraction:.3g}",
        "?" if group.half_life is None else least + _time(group.half_life, group.half_life_epochs),
        "?" if group.timescale is None else least + _time(group.timescale, group.timescale_epochs),
        "?" if group.total_shrink is None else most + percent(group.total_shrink),
        _turning(group.equilibrium),
    ]


def _time(steps: float, epochs: float | None) -> str:
    return step_count(steps) + ("" if epochs is None or math.isinf(steps) else f" ({epochs:.3g} ep)")


def _turning(rest: Equilibrium | None) -> str:
    return "-" if rest is None else f"{'about ' * (rest.rule == 'Muon')}{math.degrees(rest.rotation):.2g}°/step"
