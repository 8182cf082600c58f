"""One curve of one decay over all its seeds: the mean and the range, and thinned to what a chart can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torchdecay.text import shown

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.training.results import Trainings

MOST_POINTS, MOST_POINTS_OF_MANY = 220, 70


@dataclass(frozen=True)
class Series:
    """One decay's curve, point by point: mean, least and greatest over seeds, and `each` seed's, of several.

    NaN where a seed was not finite, which breaks the line. `index` is its label's place in the comparison, which
    decides its color; `diverged` has (seed, step) of a run's first value that is not finite; `stride` says how many
    measured points each of these stands for.
    """

    label: str
    index: int
    steps: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    num_seeds: int
    diverged: tuple[tuple[int, int], ...] = ()
    each: tuple[tuple[float, ...], ...] = ()
    stride: int = 1

    @property
    def finite(self) -> list[tuple[float, float]]:
        """(step, mean) where the mean is finite."""
        return [(x, y) for x, y in zip(self.steps, self.mean, strict=True) if math.isfinite(y)]

    def thinned(self, most: int = MOST_POINTS) -> Series:
        """At most about so many points: the first and the last as they are, each other the mean of several.

        The band then spans the points that were put together, so that a curve that swings is seen to swing.
        """
        inner = range(1, len(self.steps) - 1)
        stride = math.ceil(len(inner) / most)
        if stride < 2:
            return self
        cuts = [slice(0, 1), *(slice(i, min(i + stride, inner.stop)) for i in inner[::stride]), slice(-1, None)]
        return replace(
            self,
            steps=tuple(mean_of(self.steps[cut]) for cut in cuts),
            mean=tuple(mean_of(self.mean[cut]) for cut in cuts),
            low=tuple(_least(self.low[cut]) for cut in cuts),
            high=tuple(_greatest(self.high[cut]) for cut in cuts),
            each=tuple(tuple(mean_of(own[cut]) for cut in cuts) for own in self.each),
            stride=stride,
        )


def series_of(comparison: Comparison, curve: str) -> list[Series]:
    """Every label's series of one curve, in the order of the labels; labels without a finished run are left out."""
    made = []
    for index, label in enumerate(comparison.labels):
        runs = [run for run in comparison.of(label) if getattr(run, curve) is not None]
        if not runs:
            continue
        by_step = [dict(zip(run.steps, getattr(run, curve), strict=True)) for run in runs]
        steps = [step for step in by_step[0] if all(step in values for values in by_step)]
        if not steps:
            continue
        rows = [[values[step] for values in by_step] for step in steps]
        means, low, high = over_seeds(rows)
        made.append(
            Series(
                label=shown(label),
                index=index,
                steps=tuple(steps),
                mean=means,
                low=low,
                high=high,
                num_seeds=len(runs),
                each=tuple(zip(*rows, strict=True)) if len(runs) > 1 else (),
                diverged=tuple(
                    (run.seed, next(step for step, value in values.items() if not math.isfinite(value)))
                    for run, values in zip(runs, by_step, strict=True)
                    if not all(map(math.isfinite, values.values()))
                ),
            )
        )
    return made


def curve_name(curve: str, result: Trainings) -> str:
    """What a curve is called: "training loss", "test accuracy" where the score is called so, "weight norm"."""
    part, _, what = curve.partition("_")
    if result.metric and part == "validation":
        return shown(result.metric, most=40)
    score = result.score_name
    named = shown(score, most=40) or "score" if what == "score" else what
    return f"{'training' if part == 'train' else part} {named}"


def coincident(all_series: Sequence[Series]) -> list[list[Series]]:
    """Groups of two and more series whose means differ nowhere by more than a thousandth of the chart's range."""
    values = [y for one in all_series for _, y in one.finite]
    if not values:
        return []
    tolerance = 1e-3 * (max(values) - min(values))
    groups: list[list[Series]] = []
    for one in all_series:
        for group in groups:
            if group[0].steps == one.steps and all(
                abs(a - b) <= tolerance for a, b in zip(group[0].mean, one.mean, strict=True)
            ):
                group.append(one)
                break
        else:
            groups.append([one])
    return [group for group in groups if len(group) > 1]


def over_seeds(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    """Mean, least and greatest of rows that hold a number for each seed; NaN where one of them is not finite."""
    return tuple(tuple(pick(row) for row in rows) for pick in (mean_of, _least, _greatest))


def mean_of(values: Sequence[float]) -> float:
    """The mean, or NaN."""
    # A sum that overflows counts as not finite, as its terms nearly are; fmean would raise.
    mean = sum(values) / len(values)
    return mean if math.isfinite(mean) else math.nan


def _least(values: Sequence[float]) -> float:
    return min(values) if all(map(math.isfinite, values)) else math.nan


def _greatest(values: Sequence[float]) -> float:
    return max(values) if all(map(math.isfinite, values)) else math.nan
