"""What a comparison shows and what it does not: paired differences over seeds.

The rule, for each decay against the baseline (the run without decay):

* The same seed gives both runs the same data, initial weights and row order, so the difference is taken seed by seed.
* Its mean gets a two-sided t interval with n − 1 degrees of freedom. With k decays against one baseline each interval
  has level 1 − 0.05/k (Bonferroni), so that all k hold together at 95 %.
* An interval without 0 is a measured difference; one with 0 is none that these seeds can show.
* Fewer than three seeds claim nothing, whatever their interval; a single one has none.
* A score that moves in steps, one row more or fewer being right, is known to half a step only, which adds the variance
  of two roundings to that of the differences: seeds that agree to the last row do not make an interval of no width.
* A pair with a run that diverged is left out and counted.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torchdecay.errors import need
from torchdecay.lab.training.results import TrainingRun

LEVEL = 0.95
FEWEST_SEEDS = 3
Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-math.inf, math.inf)
SAME = 1e-3
"""Loss curves that nowhere differ by more than this count as the same; rounding makes identical updates drift."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One decay against the baseline in the final value of one curve.

    Attributes:
        label: the decay.
        baseline: what it is compared with.
        measure: the curve, "test_score" say.
        differences: label − baseline for each seed that both finished with finite numbers.
        diverged: pairs left out because a number was not finite.
        level: of the interval, between 0 and 1.
        low, high: the interval of the mean difference; None with fewer than two pairs.
        better: True or False where the interval excludes 0 and there are three pairs or more, else None.
    """

    label: str
    baseline: str
    measure: str
    differences: tuple[float, ...]
    diverged: int
    level: float
    low: float | None
    high: float | None
    better: bool | None

    @property
    def mean(self) -> float | None:
        """Mean difference; None without pairs."""
        return mean(self.differences) if self.differences else None


@dataclass(frozen=True, kw_only=True)
class Best:
    """The decay with the best mean of the deciding curve, the 95 % t interval of that mean, None with a single seed.

    `tied` are the other decays that these seeds can't tell from it.
    """

    label: str
    measure: str
    value: float
    low: float | None
    high: float | None
    tied: tuple[str, ...]


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; NaN or infinite when an entry is."""
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else sum(values) / len(values)


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation over seeds (n − 1); None for a single one, NaN when an entry is not finite."""
    if len(values) < 2:
        return None
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan


def interval(
    values: Sequence[float], level: float = LEVEL, *, grain: float = 0.0, bounds: Bounds = UNBOUNDED
) -> tuple[float | None, float | None]:
    """The two-sided t interval of the mean over seeds; (None, None) with fewer than two values.

    The values are differences of what moves in steps of `grain`; their mean can't be outside of the bounds.
    """
    deviation = spread(values)
    if deviation is None:
        return None, None
    deviation = math.hypot(deviation, grain / math.sqrt(6))
    quantile = float(need("scipy.stats", "lab").t.ppf((1 + level) / 2, len(values) - 1))
    half, centre = quantile * deviation / math.sqrt(len(values)), mean(values)
    return max(bounds[0], centre - half), min(bounds[1], centre + half)


def bounds_of(measure: str, score_name: str, runs: Iterable[TrainingRun]) -> Bounds:
    """What a curve can't be below or above, as far as its name tells; a loss that nowhere was below 0 is none there."""
    if measure.endswith("_loss"):
        losses = (getattr(run, name) or () for run in runs for name in ("train_loss", "test_loss", "validation_loss"))
        return UNBOUNDED if any(loss < 0 for curve in losses for loss in curve) else (0.0, math.inf)
    if not measure.endswith("_score"):
        return UNBOUNDED
    return (0.0, 1.0) if "accuracy" in score_name.lower() else (-math.inf, 1.0) if score_name == "R²" else UNBOUNDED


def grain_of(values: Iterable[float]) -> float:
    """The least step between different values; 0 for a single one."""
    known = sorted({value for value in values if math.isfinite(value)})
    return min((b - a for a, b in itertools.pairwise(known)), default=0.0)


def together(count: int) -> float:
    """The level of each of so many intervals, so that all hold together at `LEVEL` (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(1, count)


def same_curves(left: Sequence[TrainingRun], right: Sequence[TrainingRun]) -> bool:
    """Whether the runs of two decays trained alike, seed by seed, to within `SAME`."""
    pairs = {run.seed: run for run in left}
    return len(left) == len(right) and all(
        run.seed in pairs
        and run.steps == pairs[run.seed].steps
        and all(
            abs(a - b) <= SAME
            for curve in ("train_loss", "test_loss")
            for a, b in zip(getattr(run, curve) or (), getattr(pairs[run.seed], curve) or (), strict=True)
        )
        for run in right
    )


def oscillates(run: TrainingRun) -> bool:
    """Whether the training loss turns round more often than not in the second half."""
    losses = run.train_loss or ()
    late = losses[len(losses) // 2 :]
    moves = [b - a for a, b in itertools.pairwise(late)]
    turns = sum(a * b < 0 for a, b in itertools.pairwise(moves))
    return len(moves) > 2 and turns > len(moves) / 2
