"""The choice of a sweep: on validation rows, by a stated rule, with how sure it is; and once on the test rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torchdecay.lab.comparisons.statistics import Contrast, contrast, interval, mean, spread
from torchdecay.lab.sweeps.points import Point
from torchdecay.lab.sweeps.result import CURVE_NAMES, CurvePoint, Rule, Sweep


@dataclass(frozen=True, kw_only=True)
class Chosen:
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
        test_measure: the same curve on the test rows, which took no part in the choice.
        test_mean: mean over seeds there.
        test_low, test_high: its 95 % t interval; None with a single seed.
        against: the chosen point against the best one without decay, on the test rows, seed by seed; None where
            there is none or it was chosen itself.
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


def curve(sweep: Sweep) -> tuple[CurvePoint, ...]:
    """`Sweep.curve`, which documents it."""
    made = []
    for point in sweep.points:
        runs = sweep.of(point.label)
        sound = [run for run in runs if math.isfinite(run.final(sweep.measure))]
        values = [run.final(sweep.measure) for run in sound]
        low, high = interval(values)
        finals = {}
        for name in CURVE_NAMES:
            ends = [run.final(name) for run in sound if getattr(run, name) is not None]
            if ends:
                finals[name] = (mean(ends), spread(ends))
        stopped = sorted(run.steps[-1] for run in sweep.of(point.label, whole=False) if run not in runs)
        made.append(
            CurvePoint(
                point=point,
                num_runs=len(sound),
                diverged=len(runs) - len(sound),
                stopped=tuple(stopped),
                mean=mean(values) if values else None,
                spread=spread(values),
                low=low,
                high=high,
                finals=finals,
            )
        )
    return tuple(made)


def choose(sweep: Sweep) -> Chosen | None:
    """`Sweep.best`, which documents it."""
    points = [one for one in sweep.curve if one.num_runs and not one.diverged]
    # All seeds, or as many as any point has where the sweep was stopped: fewer make a mean look better than it is.
    most = max((one.num_runs for one in points), default=0)
    able = [(one, _oriented(sweep, one)) for one in points if one.num_runs == most]
    if not able:
        return None
    leader, best = max(able, key=lambda pair: pair[1])
    chosen = leader
    if sweep.rule == "one_se" and leader.spread is not None:
        error = leader.spread / math.sqrt(most)
        chosen = max((one for one, value in able if value >= best - error), key=lambda one: one.point.pull)
    labels = [one.point.label for one, _ in able]
    everyone = sweep.comparison(*labels)
    tied = tuple(
        label
        for label in labels
        if label != leader.point.label and contrast(everyone, label, leader.point.label).better is None
    )
    test = sweep.measure.replace("validation", "test")
    ends = [run.final(test) for run in sweep.of(chosen.point.label)]
    low, high = interval(ends)
    bare = [(one, value) for one, value in able if one.point.is_bare]
    baseline = max(bare, key=lambda pair: pair[1])[0].point.label if bare else None
    against = None
    if baseline is not None and not chosen.point.is_bare:
        against = contrast(everyone, chosen.point.label, baseline, measure=test)
    assert chosen.mean is not None
    return Chosen(
        point=chosen.point,
        rule=sweep.rule,
        num_seeds=most,
        measure=sweep.measure,
        mean=chosen.mean,
        low=chosen.low,
        high=chosen.high,
        tied=tied,
        leader=leader.point.label,
        test_measure=test,
        test_mean=mean(ends),
        test_low=low,
        test_high=high,
        against=against,
    )


def _oriented(sweep: Sweep, one: CurvePoint) -> float:
    assert one.mean is not None
    return one.mean if sweep.higher_is_better else -one.mean
