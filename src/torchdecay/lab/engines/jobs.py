"""Runs of jobs: one at a time here, or several commands at once, each watched by a thread."""

from __future__ import annotations

import itertools
import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable

import torch

from torchdecay.errors import RAISED
from torchdecay.lab.jobs.job import Job, RunFailed, Setting, Slot, Stopped
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.trial import Assignment, GoesOn, Trial


def job_outcome(
    job: Job,
    trial: Trial,
    goes_on: GoesOn,
    slot: Slot | None = None,
    *,
    so_far: Callable[[TrainingRun], None] = lambda run: None,
) -> TrainingRun | Failure:
    """One run of a job; what it raises becomes a `Failure`.

    At each metric `so_far` is given the curve up to now, and then `goes_on` is asked.
    """
    label, began = trial.contender.label, time.perf_counter()
    sign = 1.0 if job.maximize else -1.0
    steps: list[float] = []
    metrics: list[float] = []

    def run(*, stopped: bool = False) -> TrainingRun:
        curve = tuple(metrics)
        return TrainingRun(
            label=label,
            decay=trial.contender.printed,
            seed=trial.seed,
            steps=_ascending(steps),
            seconds=time.perf_counter() - began,
            stopped=stopped,
            validation_loss=None if job.maximize else curve,
            validation_score=curve if job.maximize else None,
        )

    def report(step: float, metric: float) -> None:
        steps.append(step)
        metrics.append(metric)
        so_far(run())
        if not goes_on(trial, len(metrics), sign * metric if math.isfinite(metric) else -math.inf):
            raise Stopped

    setting = Setting(
        label=label,
        decay=trial.contender.decay,
        value=trial.value or 0.0,
        seed=trial.seed,
        lr_scale=trial.lr_scale,
    )
    try:
        last = job.run(setting, report, slot or Slot())
    except Stopped:
        return run(stopped=True)
    except RunFailed as error:
        return Failure(label=label, seed=trial.seed, message=str(error), traceback=error.output)
    except RAISED as error:
        return Failure.of(label, trial.seed, error)
    if not metrics or not (metrics[-1] == last or (math.isnan(last) and math.isnan(metrics[-1]))):
        steps.append(steps[-1] + 1 if steps else 1)
        metrics.append(last)
    return run()


def _ascending(steps: list[float]) -> tuple[int, ...]:
    """Whole steps as they were told; else, of epochs say, how many there were."""
    whole = all(math.isfinite(step) and step == int(step) >= 0 for step in steps)
    if whole and all(a < b for a, b in itertools.pairwise(steps)):
        return tuple(map(int, steps))
    return tuple(range(1, len(steps) + 1))


def run_here(assignment: Assignment, job: Job) -> None:
    """One run after the other, in this process."""
    for trial in assignment.trials:
        if assignment.claim(trial):
            assignment.on_run(trial, job_outcome(job, trial, assignment.goes_on))
            assignment.on_step(1)


def run_watched(assignment: Assignment, job: Job, workers: int | None) -> None:
    """Several runs at once; the caller's functions are called in its own thread.

    Each gets its share of the GPUs that can be seen, and of the cores.
    """
    slots = slots_of(workers)
    waiting, free = deque(assignment.trials), deque(slots)
    ended: queue.SimpleQueue[tuple[Trial, Slot, TrainingRun | Failure | BaseException]] = queue.SimpleQueue()
    threads: list[threading.Thread] = []

    def watch(trial: Trial, slot: Slot) -> None:
        try:
            ended.put((trial, slot, job_outcome(job, trial, assignment.goes_on, slot)))
        except BaseException as error:
            ended.put((trial, slot, error))

    try:
        while waiting or len(free) < len(slots):
            while waiting and free:
                trial = waiting.popleft()
                if assignment.claim(trial):
                    threads.append(threading.Thread(target=watch, args=(trial, free.popleft()), daemon=True))
                    threads[-1].start()
            if len(free) == len(slots):
                return
            trial, slot, outcome = ended.get()
            free.append(slot)
            if isinstance(outcome, BaseException):
                raise outcome
            assignment.on_run(trial, outcome)
            assignment.on_step(1)
    finally:
        for slot in slots:
            slot.halt.set()
        for thread in threads:
            thread.join()


def slots_of(workers: int | None) -> list[Slot]:
    """What each of so many runs at once gets of this machine; of None as many as there are GPUs, and at least one."""
    devices = _devices()
    count = workers or max(1, len(devices))
    threads = max(1, num_cores() // count)
    return [
        Slot(
            devices=",".join(devices[place::count] or [devices[place % len(devices)]]) if len(devices) > 1 else None,
            num_threads=threads if count > 1 else None,
        )
        for place in range(count)
    ]


def num_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _devices() -> list[str]:
    """The GPUs that can be seen, by the names that CUDA_VISIBLE_DEVICES has for them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]
