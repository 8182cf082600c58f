"""Asynchronous halving of jobs: a run that reaches a rung is measured against those that were there before it."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping

from torchdecay.lab.jobs.job import Job
from torchdecay.lab.sweeps.halving import REDUCTION_FACTOR, RUNGS, better_third
from torchdecay.lab.sweeps.meaning import said_by
from torchdecay.lab.training.results import TrainingRun
from torchdecay.lab.training.trial import Trial


class Arrivals:
    """Says whether a run goes on (asynchronous successive halving, arXiv 1810.05934); one without decay always does.

    The rungs are numbers of metrics: the job's own, or a ninth and a third of those of the longest run `known` to have
    come to its end, so that until there is one nothing is stopped. These wait until decay has acted at the middle
    value, where a record of a run says when that is.
    """

    def __init__(self, job: Job, known: Callable[[], Mapping[Trial, TrainingRun]], middle: float) -> None:
        self._job, self._known, self._middle = job, known, middle
        self._wait, self._looked = 0.0, 0
        self._there: dict[int, dict[Trial, float]] = defaultdict(dict)
        # Runs that are watched by threads arrive at any time.
        self._lock = threading.Lock()

    def goes_on(self, trial: Trial, count: int, metric: float) -> bool:
        """Whether a run that has told so many metrics goes on; more is better."""
        with self._lock:
            if trial.is_bare or count not in self._rungs():
                return True
            there = self._there[count]
            there[trial] = metric
            return trial in better_third({**self._recorded(count), **there})

    def _rungs(self) -> tuple[int, ...]:
        if self._job.rungs:
            return self._job.rungs
        known = self._known()
        length = max((len(run.steps) for run in known.values() if not run.stopped), default=0)
        if not self._wait and self._looked < len(known):
            self._wait, self._looked = acting_share(self._job, self._middle), len(known)
        wait = math.ceil(length * self._wait)
        shares = (REDUCTION_FACTOR**rung for rung in range(1, RUNGS + 1))
        return tuple(sorted({rung for share in shares if 0 < (rung := max(wait, round(length / share))) < length}))

    def _recorded(self, rung: int) -> dict[Trial, float]:
        """What ended runs had told at the rung, those of a store among them."""
        sign = 1.0 if self._job.maximize else -1.0
        return {
            trial: sign * float(getattr(run, self._job.measure)[rung - 1])
            for trial, run in self._known().items()
            if len(run.steps) >= rung
        }


def acting_share(job: Job, value: float) -> float:
    """After which share of a run decay with a coefficient has acted, 1/(2·lr·λ) steps; 0 where no record tells."""
    for one in job.applied.values():
        if fraction := said_by(one.forecast, "", one.num_steps).fraction:
            return one.coefficient / (2 * fraction * value * one.num_steps)
    return 0.0
