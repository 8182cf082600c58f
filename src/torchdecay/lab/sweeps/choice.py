"""The choice of a sweep: on validation rows, by a stated rule, with how sure it is; and once on the test rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torchdecay.lab.comparisons.comparison import Comparison
from torchdecay.lab.comparisons.statistics import UNBOUNDED, Bounds, Contrast, interval, mean, spread, together
from torchdecay.lab.sweeps.points import Point
from torchdecay.lab.training.results import CURVES, TrainingRun

Rule = Literal["best", "one_se"]


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """What the runs of one point measured at their end, over seeds.

    Attributes:
        point: what was tried.
        num_runs: finished runs; those that were stopped early or diverged do not count.
        diverged: runs that ended in NaN or infinities.
        stopped: runs that successive halving stopped, by the step where it did.
        mean: mean of the deciding measure on the validation rows; None without a run.
        spread: its standard deviation over seeds (n − 1); None with fewer than two.
        low, high: the 95 % t interval of the mean; None with fewer than two.
        finals: mean and spread of every curve that the runs have, by the curve's name.
    """

    point: Point
    num_runs: int
    diverged: int
    stopped: tuple[int, ...]
    mean: float | None
    spread: float | None
    low: float | None
    high: float | None
    finals: Mapping[str, tuple[float, float | None]]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The point that a sweep recommends.

    Attributes:
        point: what was chosen; the one without decay where nothing did better.
        rule: by which rule.
        num_seeds: how many seeds stand behind it.
        measure: the curve that decided, on validation rows.
        mean: its mean over seeds.
        low, high: the 95 % t interval of that mean; None with a single seed.
        tied: labels of points whose validation measure these seeds can't tell from the best mean's; each pair by
            itself at 95 %, so with many points one or two may be missing by chance.
        leader: label of the point with the best mean; another than the chosen one under the rule "one_se" only.
        test_measure: the same curve on the test rows, which took no part in the choice; of a job `measure` itself.
        test_mean: mean over seeds there.
        test_low, test_high: its 95 % t interval; None with a single seed.
        against: the chosen point against the best one without decay, on the test rows, seed by seed, at a level that
            holds for all points that were tried, those that were stopped or left the race among them; None where there
            is none or it was chosen itself.
    """

    point: Point
    rule: Rule
    num_seeds: int
    measure: str
    mean: float
    low: float | None
    high: float | None
    tied: tuple[str, ...]
    leader: str
    test_measure: str
    test_mean: float
    test_low: float | None
    test_high: float | None
    against: Contrast | None


def curve_point(
    point: Point, runs: Sequence[TrainingRun], *, measure: str, num_steps: int, bounds: Bounds = UNBOUNDED
) -> CurvePoint:
    """What the runs of a point measured in a curve, those that were stopped before so many steps left out."""
    whole = [run for run in runs if run.reached(num_steps)]
    sound = [run for run in whole if math.isfinite(run.final(measure))]
    values = [run.final(measure) for run in sound]
    low, high = interval(values, bounds=bounds)
    ends = {name: [run.final(name) for run in sound if getattr(run, name) is not None] for name in CURVES}
    return CurvePoint(
        point=point,
        num_runs=len(sound),
        diverged=len(whole) - len(sound),
        stopped=tuple(sorted(run.steps[-1] for run in runs if run not in whole and not run.unfinished)),
        mean=mean(values) if values else None,
        spread=spread(values),
        low=low,
        high=high,
        finals={name: (mean(some), spread(some)) for name, some in ends.items() if some},
    )


def choose(curve: Sequence[CurvePoint], runs: Comparison, *, rule: Rule, measure: str) -> Choice | None:
    """The point to recommend, from what the points measured and the whole runs behind them; see `Sweep.best`."""
    points = [one for one in curve if one.num_runs and not one.diverged]
    # All seeds, or as many as any point has where the sweep was stopped: fewer make a mean look better than it is.
    most = max((one.num_runs for one in points), default=0)
    able = [(one, _oriented(one, runs)) for one in points if one.num_runs == most]
    if not able:
        return None
    # Of those that do equally well the weakest: no decay where it is among them.
    leader, best = max(able, key=lambda pair: (pair[1], -pair[0].point.pull))
    chosen = leader
    if rule == "one_se" and leader.spread is not None:
        error = leader.spread / math.sqrt(most)
        chosen = max((one for one, value in able if value >= best - error), key=lambda one: one.point.pull)
    others = [one.point.label for one, _ in able if one is not leader]
    against_leader = {label: runs.contrast(label, leader.point.label, measure=measure) for label in others}
    rows = measure.replace("validation", "test")
    # A job tells one metric, and no test rows are known: the level below allows for the choice.
    test = rows if any(getattr(run, rows) is not None for run in runs.runs) else measure
    ends = runs.final(chosen.point.label, test)
    low, high = interval(ends, bounds=runs.bounds(test))
    bare = [(one, value) for one, value in able if one.point.is_bare]
    baseline = max(bare, key=lambda pair: pair[1])[0].point.label if bare else None
    against = None
    if baseline is not None and not chosen.point.is_bare:
        # Whoever is best of many has had luck, in what validation and test rows share as well: the run itself.
        level = together(sum(not one.point.is_bare and bool(one.num_runs or one.stopped) for one in curve))
        against = runs.contrast(chosen.point.label, baseline, measure=test, level=level)
    assert chosen.mean is not None
    return Choice(
        point=chosen.point,
        rule=rule,
        num_seeds=most,
        measure=measure,
        mean=chosen.mean,
        low=chosen.low,
        high=chosen.high,
        tied=tuple(label for label, one in against_leader.items() if one.better is None),
        leader=leader.point.label,
        test_measure=test,
        test_mean=mean(ends),
        test_low=low,
        test_high=high,
        against=against,
    )


def _oriented(one: CurvePoint, runs: Comparison) -> float:
    assert one.mean is not None
    return one.mean if runs.higher_is_better else -one.mean
