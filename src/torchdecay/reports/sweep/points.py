"""The points of a sweep as charts and tables need them: short names, places on an axis, numbers of every seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torchdecay.reports.drawing.chart import tick
from torchdecay.text import shown, spelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.sweeps.points import Point
    from torchdecay.lab.sweeps.result import Sweep

_MOST_TICKS = 6


@dataclass(frozen=True)
class Spot:
    """What the runs of one point measured.

    Attributes:
        point: the point.
        values: of each whole run, by seed, those that are finite.
        early: the last value of each run that halving stopped.
        lost: runs that ended in NaN or infinities.
    """

    point: Point
    values: tuple[float, ...]
    early: tuple[float, ...] = ()
    lost: int = 0

    @property
    def mean(self) -> float:
        """Over seeds; NaN where no run was finished."""
        return math.fsum(self.values) / len(self.values) if self.values else math.nan


def spots_of(sweep: Sweep, curve: str) -> list[Spot]:
    """Every point with the last numbers of one curve, in the sweep's order."""
    made = []
    for point in sweep.points:
        every = [run for run in sweep.of(point.label, whole=False) if getattr(run, curve) is not None]
        whole = [run.final(curve) for run in every if run.steps[-1] >= sweep.num_steps]
        early = [run.final(curve) for run in every if run.steps[-1] < sweep.num_steps]
        finite = tuple(filter(math.isfinite, whole))
        made.append(Spot(point, finite, tuple(filter(math.isfinite, early)), len(whole) - len(finite)))
    return made


def lr_scales(sweep: Sweep) -> list[float]:
    """The multipliers of the learning rate that were tried, ascending."""
    return sorted({point.lr_scale for point in sweep.points})


def name_of(sweep: Sweep, point: Point) -> str:
    """What a point is called on the page: its coefficient alone, as the form is the same everywhere."""
    if point.is_bare:
        head = "none"
    elif point.values:
        head = ", ".join(f"{shown(name, most=30)} {spelled(value)}" for name, value in point.values)
    else:
        head = spelled(point.value or 0.0)
    return head if lr_scales(sweep) == [1.0] else f"{head} at {lr_name(sweep, point.lr_scale)}"


def lr_name(sweep: Sweep, scale: float) -> str:
    """The learning rate with this multiplier; the multiplier where the rate is not known."""
    return f"lr × {spelled(scale)}" if sweep.lr is None else f"lr {float(f'{sweep.lr * scale:.3g}'):g}"


def renamed(sweep: Sweep, points: Sequence[Point]) -> Comparison:
    """Some points as a comparison whose labels are the short names."""
    names = {point.label: name_of(sweep, point) for point in points}
    made = sweep.comparison(*names)
    return replace(
        made,
        labels=tuple(names.values()),
        runs=tuple(replace(run, label=names[run.label]) for run in made.runs),
        failures=(),
    )


def curve_name(sweep: Sweep, curve: str) -> str:
    """What a curve is called: "validation accuracy", "training loss", "weight norm"."""
    part, _, what = curve.partition("_")
    if what == "norm":
        return f"{part} norm"
    named = shown(sweep.score_name, most=40) or "score" if what == "score" else what
    return f"{'training' if part == 'train' else part} {named}"


def capital(text: str) -> str:
    """The same with a capital at its start, the rest as it is."""
    return text[:1].upper() + text[1:]


def best_spot(sweep: Sweep, spots: Sequence[Spot]) -> Spot | None:
    """The one with the best mean; None where none has a number."""
    sign = 1.0 if sweep.higher_is_better else -1.0
    known = [spot for spot in spots if spot.values]
    return max(known, key=lambda spot: sign * spot.mean, default=None)


def log_ticks(axes: Axes, values: Sequence[float], *, along: str = "x", none_at: float | None = None) -> None:
    """Tick an axis of log10 coordinates: powers of ten where there are enough, else the values; "none" in its place."""
    low, high = math.log10(min(values)), math.log10(max(values))
    tens = [10.0**exponent for exponent in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]
    picked = tens if len(tens) > 1 else sorted(set(values))
    picked = picked[:: math.ceil(len(picked) / _MOST_TICKS)]
    places = [math.log10(value) for value in picked]
    names = [tick(value) for value in picked]
    if none_at is not None:
        places, names = [none_at, *places], ["none", *names]
    setter = axes.set_xticks if along == "x" else axes.set_yticks
    setter(places, names)


def log_range(values: Sequence[float], *, room: float = 0.06) -> tuple[float, float]:
    """From the least to the greatest in log10, with air; half a decade around a single value."""
    low, high = math.log10(min(values)), math.log10(max(values))
    air = room * (high - low) if high > low else 0.5
    return low - air, high + air
