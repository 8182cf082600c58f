"""`engine="auto"`: time a few steps of each way, and take the one that will be done first."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torchdecay.lab.engines.cores import num_cores
from torchdecay.lab.engines.jobs import slots_of
from torchdecay.lab.engines.serial import outcome_of
from torchdecay.lab.engines.stacked.engine import run
from torchdecay.lab.engines.stacked.fit import why_not
from torchdecay.lab.jobs.job import Job
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.trial import Assignment, Trial

PROCESS_START = 4.0
"""Seconds until a worker process has imported torch and the task, and takes work."""

SHARING = 0.9
"""The part of a core's speed that is left to each of several processes: they share memory and cache."""

SHORT = 5.0
"""Seconds of work below which it is not worth finding out."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What a few steps took, and what all runs would take, in seconds.

    Attributes:
        alone: one step of one run.
        stacked: one step of all runs as one; None where they can't be stacked.
        why_not: why they can't; "" where they can.
        totals: all runs, by the engine's name.
    """

    alone: float
    stacked: float | None
    why_not: str
    totals: Mapping[str, float]


def choose(task: Task | Job, trials: Sequence[Trial], *, workers: int | None = None) -> tuple[str, str]:
    """The engine that will be done first with these trials, and why, in words.

    Args:
        task: what will be trained.
        trials: which runs.
        workers: how many processes there may be; None for one per core.

    Returns:
        "stacked", "process" or "serial", and a sentence for people.

    Example:
        >>> from torchdecay.lab import task_named
        >>> from torchdecay.lab.training.contenders import as_contender
        >>> from torchdecay.lab.training.trial import Assignment, Trial
        >>> choose(task_named("digits"), [Trial(contender=as_contender("decoupled:1"), seed=0, value=1.0)])
        ('serial', 'a single run needs no other')
    """
    if len(trials) < 2:
        return "serial", "a single run needs no other"
    if isinstance(task, Job):
        return ("process", "") if len(slots_of(workers)) > 1 else ("serial", "")
    timing = time_steps(task, trials, workers=workers)
    totals = timing.totals
    best = min(totals, key=totals.__getitem__)
    told = ", ".join(f"{name} {_seconds(total)}" for name, total in sorted(totals.items(), key=lambda item: item[1]))
    reason = f"timed on a few steps, all would take: {told}"
    return best, f"{reason}; not stacked: {timing.why_not}" if timing.why_not else reason


def time_steps(task: Task, trials: Sequence[Trial], *, steps: int | None = None, workers: int | None = None) -> Timing:
    """Time steps of one run alone and, where that can be, of all as one.

    Measured with its share of measuring: from one point of the curves to the next.
    """
    count = steps or min(task.eval_every, 50, task.num_steps)
    # A point at 0 to start the clock, one in the middle that warms up, one at the end.
    short = dataclasses.replace(task, num_steps=2 * count, eval_every=count)
    alone = None
    for trial in trials:
        alone, _ = _per_step(lambda on_step, trial=trial: [outcome_of(short, trial, on_step)], count)  # type: ignore[misc]
        if alone is not None:
            break
    alone = alone or 0.0
    serial_total = alone * task.num_steps * len(trials)
    workers = min(workers or max(1, num_cores() // (task.num_threads or 1)), len(trials))
    process_total = PROCESS_START + serial_total / (workers * SHARING if workers > 1 else 1.0)
    reason = why_not(task, trials) if serial_total > SHORT else "the runs are too short for it to matter"
    stacked = None
    if reason is None:
        stacked, reason = _per_step(lambda on_step: _stacked(short, trials, on_step), count * len(trials))
    together = None if stacked is None else stacked * len(trials)
    totals = {"serial": serial_total, "process": process_total}
    if together is not None:
        totals["stacked"] = together * task.num_steps
    return Timing(alone=alone, stacked=together, why_not=reason or "", totals=totals)


def _per_step(
    start: Callable[[Callable[[int], None]], Sequence[TrainingRun | Failure]], count: int
) -> tuple[float | None, str | None]:
    """Seconds per member-step over the last `count` of them; or None and why there are none."""
    marks: list[float] = []
    outcomes = start(lambda n: marks.append(time.perf_counter()))
    failed = next((one.message for one in outcomes if isinstance(one, Failure)), None)
    if len(marks) < 2:
        return None, failed or "it took no step"
    return (marks[-1] - marks[-2]) / count, None


def _stacked(task: Task, trials: Sequence[Trial], on_step: Callable[[int], None]) -> list[TrainingRun | Failure]:
    found: list[TrainingRun | Failure] = []
    asked = Assignment(task=task, trials=trials, on_run=lambda _, outcome: found.append(outcome), on_step=on_step)
    run(asked, compile=False)
    return found


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"
