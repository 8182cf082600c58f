"""`engine="auto"`: the way that will be done first, found out by doing.

The first run is begun alone, and goes on to its end where that is no loss; else what it had is given up after two
points of its curves. If all runs would be done soon, they follow one by one. Otherwise they are stacked, where they can
be, and at each point of the curves it is looked at whether worker processes would be done sooner, from the start even.
So what is timed is the sweep itself, and lost is only what turned out to be the slower way.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

from torchdecay.errors import TaskError
from torchdecay.lab.engines import process, serial
from torchdecay.lab.engines.jobs import num_cores, slots_of
from torchdecay.lab.engines.stacked import engine as stacked
from torchdecay.lab.jobs.job import Job
from torchdecay.lab.training.results import TrainingRun
from torchdecay.lab.training.trial import Assignment, Trial

PROCESS_START = 4.0
"""Seconds until a worker process has imported torch and the task, and takes work."""

SHARING = 0.9
"""The part of a core's speed that is left to each of several processes: they share memory and cache."""

STACKS = 3.0
"""How many times as fast a stack may be, as far as is known before it is tried."""

SHORT = 5.0
"""Seconds of work below which it is not worth finding out."""

Tell = Callable[[str, str], None]
"""Told the engine and why, in words, before all that is left runs on it."""


def run(assignment: Assignment, tell: Tell, *, workers: int | None = None) -> None:
    """Run the trials on up to so many processes, None being one per core; `tell` is told which engine, and why."""
    task, trials = assignment.task, assignment.trials
    if isinstance(task, Job):
        _by("process" if len(slots_of(workers)) > 1 else "serial", "", assignment, tell, workers)
        return
    if len(trials) < 2:
        _by("serial", "a single run needs no other", assignment, tell, workers)
        return
    count = min(workers or max(1, num_cores() // (task.num_threads or 1)), len(trials))
    pace, left = _first(assignment, count)
    totals = _totals(pace, task.num_steps * len(trials), count)
    assignment = dataclasses.replace(assignment, trials=left)
    if len(left) < 2 or totals["serial"] <= SHORT:
        why = f"{_told(totals)}; not stacked: the runs are too short for it to matter"
        _by("serial", why, assignment, tell, workers)
        return
    name = min(totals, key=totals.__getitem__)
    clock = _Clock(assignment.on_step, task.num_steps * len(left), lambda clock: clock.left > totals[name])
    try:
        tell("stacked", f"the first run alone foretells {_told(totals)}")
        stacked.run(dataclasses.replace(assignment, on_step=clock))
        return
    except _Enough:
        why = f"{_told(totals | {'stacked': clock.seconds + clock.left})}"
    except TaskError as error:
        why = f"{_told(totals)}; not stacked: {error.__cause__ or error.what}"
    _by(name, why, assignment, tell, workers)


class _Enough(BaseException):
    """What is under way is not worth going on with; no error of a run, which engines record."""


class _Clock:
    """Counts steps on, and ends what takes them once it is asked to."""

    def __init__(self, on_step: Callable[[int], None], planned: int, enough: Callable[[_Clock], bool]) -> None:
        self._on_step, self._planned, self._enough = on_step, planned, enough
        self._began = time.perf_counter()
        self._first, self.done = 0, 0
        self._start: float | None = None
        self.seconds = 0.0

    def __call__(self, count: int) -> None:
        self.done += count
        now = time.perf_counter()
        self.seconds = now - self._began
        if self._start is None:
            # What comes before the first point is preparation as well.
            self._first, self._start = self.done, now
        self._on_step(count)
        if self._first < self.done < self._planned and self._enough(self):
            raise _Enough

    @property
    def pace(self) -> float:
        """Seconds of a step."""
        if self._start is None or self.done == self._first:
            return self.seconds / max(1, self.done)
        return (self._began + self.seconds - self._start) / (self.done - self._first)

    @property
    def left(self) -> float:
        """Seconds that the rest will take."""
        return self.pace * (self._planned - self.done)


def _first(assignment: Assignment, workers: int) -> tuple[float, list[Trial]]:
    """Seconds of a step of a run alone, and the trials that are left; which of them succeed counts for nothing."""
    task, left, pace = assignment.training, list(assignment.trials), 0.0

    def is_loss(clock: _Clock) -> bool:
        """Whether going on alone takes longer than starting this run again beside the others."""
        alone, others = _best(clock.pace, task.num_steps * len(left), workers), task.num_steps * (len(left) - 1)
        return alone < clock.left + _best(clock.pace, others, workers)

    while len(left) > 1:
        trial, clock = left[0], _Clock(assignment.on_step, task.num_steps, is_loss)
        if not assignment.claim(trial):
            left = left[1:]
            continue
        halved = assignment.keep is not None
        begun = dataclasses.replace(task, num_steps=min(task.num_steps, 2 * task.eval_every)) if halved else task
        try:
            outcome = serial.outcome_of(begun, trial, clock)
        except _Enough:
            return clock.pace, left
        if halved and isinstance(outcome, TrainingRun):
            # Who goes on is decided over all, so this one is run again.
            return clock.pace, left
        assignment.on_run(trial, outcome)
        left, pace = left[1:], clock.pace
        if isinstance(outcome, TrainingRun):
            break
    return pace, left


def _totals(pace: float, steps: int, workers: int) -> dict[str, float]:
    """Seconds for so many steps, by the engine's name."""
    alone = pace * steps
    return {"serial": alone, "process": PROCESS_START + alone / (workers * SHARING if workers > 1 else 1.0)}


def _best(pace: float, steps: int, workers: int) -> float:
    """The least that so many steps may take."""
    totals = _totals(pace, steps, workers)
    return totals["serial"] if totals["serial"] <= SHORT else min(*totals.values(), totals["serial"] / STACKS)


def _by(name: str, why: str, assignment: Assignment, tell: Tell, workers: int | None) -> None:
    tell(name, why)
    if name == "process":
        process.run(assignment, workers=workers)
    else:
        serial.run(assignment)


def _told(totals: Mapping[str, float]) -> str:
    ordered = sorted(totals.items(), key=lambda item: item[1])
    return f"all would take: {', '.join(f'{name} {_seconds(total)}' for name, total in ordered)}"


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"
