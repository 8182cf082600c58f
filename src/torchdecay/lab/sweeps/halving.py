"""Successive halving: at 1/9 and at 1/3 of the steps only the better third of what is tried goes on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping

from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.results import TrainingRun
from torchdecay.lab.training.trial import Keep, Trial

RUNGS = 2
REDUCTION_FACTOR = 3


def rungs_of(task: Task) -> tuple[int, ...]:
    """The steps where some stop: points of the curves, so that a whole run has them too."""
    shares = [REDUCTION_FACTOR**rung for rung in range(1, RUNGS + 1)]
    rungs = {max(1, round(task.num_steps / share / task.eval_every)) * task.eval_every for share in shares}
    return tuple(sorted(rung for rung in rungs if rung < task.num_steps))


class Halving:
    """Says who goes on: points by their mean over seeds, all seeds of a point together, runs without decay always."""

    def __init__(self, task: Task, measure: str, known: Callable[[], Mapping[Trial, TrainingRun]]) -> None:
        self._sign = 1.0 if measure.endswith("score") else -1.0
        self._measure, self._known = measure, known
        self.keep = Keep(rungs_of(task), self.choose)

    def choose(self, rung: int, measures: Mapping[Trial, float]) -> frozenset[Trial]:
        """The trials that go on."""
        going = better_third({**self._recorded(rung), **measures})
        return frozenset(trial for trial in measures if trial.is_bare or trial in going)

    def _recorded(self, rung: int) -> dict[Trial, float]:
        return {
            trial: self._sign * getattr(run, self._measure)[run.steps.index(rung)]
            for trial, run in self._known().items()
            if rung in run.steps
        }

    @staticmethod
    def steps(task: Task, count: int) -> int:
        """About how many steps so many runs take in all."""
        total, before, living = 0, 0, count
        for rung in (*rungs_of(task), task.num_steps):
            total += living * (rung - before)
            before, living = rung, math.ceil(living / REDUCTION_FACTOR)
        return total


def better_third(measures: Mapping[Trial, float]) -> frozenset[Trial]:
    """Those with decay of the best third of points; more is better, and each seed of a point counts."""
    values: dict[str, list[float]] = defaultdict(list)
    for trial, value in measures.items():
        if not trial.is_bare:
            values[trial.contender.label].append(value if math.isfinite(value) else -math.inf)
    means = {label: sum(some) / len(some) for label, some in values.items()}
    ranked = sorted(means, key=lambda label: -means[label])
    going = set(ranked[: math.ceil(len(ranked) / REDUCTION_FACTOR)])
    return frozenset(trial for trial in measures if trial.contender.label in going)
