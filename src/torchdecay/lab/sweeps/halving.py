"""Successive halving: at two rungs only the better third of what is tried goes on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torchdecay.errors import TaskError
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.results import TrainingRun
from torchdecay.lab.training.trial import Keep, Trial
from torchdecay.text import step_count

RUNGS = 2
REDUCTION_FACTOR = 3


@dataclass(frozen=True)
class Rungs:
    """Where some stop: at which points of the curves; and why there, where not at a ninth and a third of the steps."""

    steps: tuple[int, ...]
    why: str = ""


def rungs_of(task: Task, acting: Sequence[float] = ()) -> Rungs:
    """A ninth and a third of the steps, but not before decay has acted at half of the values that act in the run.

    `acting` says for each value after how many steps it has acted, about 1/(2·lr·λ): a rung before that ranks noise.
    """
    every, shares = task.eval_every, [REDUCTION_FACTOR**rung for rung in range(1, RUNGS + 1)]
    plain = {max(1, round(task.num_steps / share / every)) * every for share in shares}
    # Those that never act in the run are like no decay, whoever of them goes on.
    within = sorted(one for one in acting if one < task.num_steps)
    wait = within[(len(within) - 1) // 2] if within else 0.0
    rungs = {max(rung, math.ceil(wait / every) * every) for rung in plain}
    steps = tuple(sorted(rung for rung in rungs if rung < task.num_steps))
    if acting and (not within or not steps):
        soon = step_count(min(acting))
        raise TaskError(
            f"halving would rank noise: decay has acted after about 1/(2·lr·λ) = {soon} steps at the strongest "
            f"value, and the run has {task.num_steps:,}.",
            "Before that a value's run is still like that of any other.",
            "Search with another kind, grid say, or give larger values or more steps.",
        )
    if not acting or min(plain) >= wait:
        return Rungs(steps)
    middle = step_count(wait)
    return Rungs(
        steps,
        f"Halving waits until step {min(steps):,}: at step {min(plain):,}, a ninth of the run, decay has not acted at "
        f"half of the values (it takes about 1/(2·lr·λ) steps, {middle} at their middle), and a rung there ranks "
        "noise.",
    )


class Halving:
    """Says who goes on: points by their mean over seeds, all seeds of a point together, runs without decay always."""

    def __init__(self, rungs: tuple[int, ...], measure: str, known: Callable[[], Mapping[Trial, TrainingRun]]) -> None:
        self._sign = 1.0 if measure.endswith("score") else -1.0
        self._measure, self._known = measure, known
        self.keep = Keep(rungs, self.choose)

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
    def steps(rungs: tuple[int, ...], num_steps: int, count: int) -> int:
        """About how many steps so many runs take in all."""
        total, before, living = 0, 0, count
        for rung in (*rungs, num_steps):
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
