"""The points of a sweep as charts and tables need them: short names, places on an axis, numbers of every seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from torchdecay.lab.comparisons.comparison import Comparison
from torchdecay.lab.sweeps.choice import CurvePoint
from torchdecay.lab.sweeps.meaning import Meaning
from torchdecay.lab.sweeps.points import Point
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.lab.training.results import CURVES, TrainingRun
from torchdecay.reports.comparison.series import curve_name
from torchdecay.reports.drawing.axes import Ticks, evenly, tick
from torchdecay.text import shown, spelled

T = TypeVar("T")
_MOST_TICKS = 6
MOST = 100
"""Of more points charts show no seeds, and tables not every row: all are in the file of numbers."""


@dataclass(frozen=True)
class Spot:
    """What the runs of one point measured: finite ends of whole runs, by seed, and `early` ones that halving stopped.

    `lost` counts runs that ended in NaN or infinities.
    """

    point: Point
    values: tuple[float, ...]
    early: tuple[float, ...] = ()
    lost: int = 0

    @property
    def mean(self) -> float:
        """Over seeds; NaN where no run was finished."""
        return math.fsum(self.values) / len(self.values) if self.values else math.nan


@dataclass(frozen=True)
class Points:
    """A sweep's points, worked out once for all that a page says of them."""

    sweep: Sweep

    @cached_property
    def scales(self) -> list[float]:
        """The multipliers of the learning rate that were tried, ascending."""
        return sorted({point.lr_scale for point in self.sweep.points})

    @cached_property
    def runs(self) -> Mapping[str, tuple[TrainingRun, ...]]:
        """By label, those that halving stopped among them."""
        return {point.label: self.sweep.of(point.label, whole=False) for point in self.sweep.points}

    @cached_property
    def spots(self) -> Mapping[str, list[Spot]]:
        """For each curve every point with its last numbers, in the sweep's order."""
        return {curve: [self._spot(point, curve) for point in self.sweep.points] for curve in CURVES}

    def _spot(self, point: Point, curve: str) -> Spot:
        every = [run for run in self.runs[point.label] if getattr(run, curve) is not None]
        whole = [run.final(curve) for run in every if run.reached(self.sweep.num_steps)]
        early = [run.final(curve) for run in every if not run.reached(self.sweep.num_steps)]
        finite = tuple(filter(math.isfinite, whole))
        return Spot(point, finite, tuple(filter(math.isfinite, early)), len(whole) - len(finite))

    @property
    def deciding(self) -> list[Spot]:
        """The spots of the measure that decides."""
        return self.spots[self.sweep.measure]

    @cached_property
    def names(self) -> Mapping[str, str]:
        """What each label is called on the page: its coefficient alone, as the form is the same everywhere."""
        return {point.label: self._name(point) for point in self.sweep.points}

    def _name(self, point: Point) -> str:
        if point.is_bare:
            head = "none"
        elif point.values:
            head = ", ".join(f"{shown(name, most=30)} {spelled(value)}" for name, value in point.values)
        else:
            head = spelled(point.value or 0.0)
        return head if self.scales == [1.0] else f"{head} at {self.lr_name(point.lr_scale)}"

    def name(self, point: Point) -> str:
        """What a point is called on the page."""
        return self.names[point.label]

    def lr_name(self, scale: float) -> str:
        """The learning rate with this multiplier; the multiplier where the rate is not known."""
        lr = self.sweep.lr
        return f"lr × {spelled(scale)}" if lr is None else f"lr {float(f'{lr * scale:.3g}'):g}"

    def curve_name(self, curve: str) -> str:
        """What a curve is called: "validation accuracy", say."""
        return curve_name(curve, self.sweep)

    @cached_property
    def measured(self) -> Mapping[str, CurvePoint]:
        """By label what its runs measured at their end."""
        return {one.point.label: one for one in self.sweep.curve}

    @cached_property
    def meanings(self) -> Mapping[str, Meaning]:
        """By label what its coefficient means in steps."""
        return {one.label: one for one in self.sweep.meanings}

    def best_of(self, spots: Sequence[Spot]) -> Spot | None:
        """The one with the best mean; None where none has a number."""
        sign = 1.0 if self.sweep.higher_is_better else -1.0
        known = [spot for spot in spots if spot.values]
        return max(known, key=lambda spot: sign * spot.mean, default=None)

    def bare(self, curve: str) -> Spot | None:
        """The run without decay; of several learning rates that which the deciding measure likes best."""
        best = self.best_of([spot for spot in self.deciding if spot.point.is_bare])
        return next((one for one in self.spots[curve] if best and one.point == best.point and one.values), None)

    def some(self, of: Sequence[T], point: Callable[[T], Point]) -> list[T]:
        """At most about `MOST` of many things, evenly, with those of no decay, of the choice and of the best mean."""
        chosen = self.sweep.best
        named = () if chosen is None else (chosen.point.label, chosen.leader)
        places = set(evenly(len(of), MOST))
        return [
            one for place, one in enumerate(of) if place in places or point(one).is_bare or point(one).label in named
        ]

    def renamed(self, some: Sequence[Point]) -> Comparison:
        """Some points as a comparison whose labels are the short names."""
        made = self.sweep.comparison(*(point.label for point in some))
        return replace(
            made,
            labels=tuple(map(self.name, some)),
            runs=tuple(replace(run, label=self.names[run.label]) for run in made.runs),
            failures=(),
        )


def log_ticks(values: Sequence[float], *, none_at: float | None = None) -> Ticks:
    """Ticks of an axis of log10 coordinates: powers of ten where there are enough, else the values; and "none"."""
    low, high = math.log10(min(values)), math.log10(max(values))
    tens = [10.0**exponent for exponent in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]
    picked = tens if len(tens) > 1 else sorted(set(values))
    picked = picked[:: math.ceil(len(picked) / _MOST_TICKS)]
    ticks = tuple((math.log10(value), tick(value)) for value in picked)
    return ticks if none_at is None else ((none_at, "none"), *ticks)


def log_range(values: Sequence[float], *, room: float = 0.06) -> tuple[float, float]:
    """From the least to the greatest in log10, with air; half a decade around a single value."""
    low, high = math.log10(min(values)), math.log10(max(values))
    air = room * (high - low) if high > low else 0.5
    return low - air, high + air
