"""`engine="process"`: one run per worker process, on all cores; for any task."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
import time
import types
from collections import Counter, deque
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

import torch

from torchdecay.arguments import check_count
from torchdecay.errors import TaskError, need
from torchdecay.lab.engines.jobs import job_outcome, num_cores, run_watched
from torchdecay.lab.engines.rounds import in_rounds
from torchdecay.lab.engines.serial import outcome_of
from torchdecay.lab.jobs.command import Command
from torchdecay.lab.jobs.job import Job
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.results import Failure
from torchdecay.lab.training.trial import Assignment, Trial
from torchdecay.text import describe_error

MOST_STILLBORN = 3
"""Workers that may die before they have taken any work, until something must be wrong with all of them."""


def run(assignment: Assignment, *, workers: int | None = None) -> None:
    """Train the trials, each in one of several worker processes.

    The numbers are to the bit those of `serial`: the same loop with the same number of threads. A worker that dies
    costs the run that it had, which is tried once more. The task travels to the workers, so it must pickle (functions
    and lambdas do). The runs of a command are processes already.

    Args:
        assignment: what to run.
        workers: how many processes; None gives one to every `task.num_threads` cores, and to a command one for each
            GPU.

    Raises:
        TaskError: the task does not pickle, or workers die before they take work.
    """
    task = assignment.task
    if workers is not None:
        check_count(workers, "the number of workers", error=TaskError)
    if isinstance(task, Command):
        return run_watched(assignment, task, workers)
    if workers is None:
        workers = max(1, num_cores() // (1 if isinstance(task, Job) else task.num_threads or 1))
    pool = _Pool(task, min(workers, len(assignment.trials)))
    try:
        in_rounds(pool.run_all, assignment)
    finally:
        pool.stop()


def packed(task: Task | Job, value: Any) -> bytes:
    """The task, or something with the task in it, as bytes for other processes."""
    try:
        return _pickled(value)
    except Exception as error:
        raise TaskError(
            f"the task {task.name!r} can't be sent to other processes: {describe_error(error, where=True)}.",
            "Each worker needs a copy of it.",
            'Let it hold functions and tensors only, or run it here with engine="serial".',
        ) from error


class _Worker:
    """A process, our end of its pipe, and what it is doing."""

    def __init__(self, task: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        with _interrupts_stay_here(), _main_stays_here():
            self.process.start()
        theirs.close()
        with contextlib.suppress(OSError):  # died already: the pool finds out when it listens
            self.pipe.send_bytes(task)
        self.trial: Trial | None = None
        self.is_ready = False

    def answer(self, goes_on: bool) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(_pickled(goes_on))

    def give(self, trial: Trial, num_steps: int, counted: int) -> None:
        self.trial = trial
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(_pickled((trial, num_steps, counted)))

    def stop(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


class _Pool:
    """Workers that are replaced when they die."""

    def __init__(self, task: Task | Job, count: int) -> None:
        self.task, self.count = packed(task, task), count
        self.workers: list[_Worker] = []
        self.deaths: Counter[Trial] = Counter()
        self.stillborn = 0

    def run_all(self, part: Assignment, counted: int) -> None:
        """Run the trials and return when all have an outcome."""
        waiting = deque(part.trials)
        claimed: set[Trial] = set()
        while True:
            while len(self.workers) < min(self.count, len(waiting) + sum(w.trial is not None for w in self.workers)):
                self.workers.append(_Worker(self.task))
            for worker in self.workers:
                while worker.trial is None and worker.is_ready and waiting:
                    trial = waiting.popleft()
                    if trial in claimed or part.claim(trial):
                        claimed.add(trial)
                        worker.give(trial, part.task.num_steps, counted)
            if not waiting and not any(worker.trial is not None for worker in self.workers):
                return
            pipes = {worker.pipe: worker for worker in self.workers}
            for pipe in multiprocessing.connection.wait(list(pipes)):
                worker = pipes[pipe]  # type: ignore[index]
                try:
                    kind, value = pickle.loads(worker.pipe.recv_bytes())
                except (EOFError, OSError):
                    self._bury(worker, waiting, part)
                    continue
                if kind == "ready":
                    worker.is_ready = True
                elif kind == "steps":
                    part.on_step(value)
                elif kind == "metric":
                    assert worker.trial is not None
                    worker.answer(part.goes_on(worker.trial, *value))
                elif kind == "unusable":
                    raise TaskError(
                        f"a worker can't use the task: {value}.",
                        "Workers import what the task is made of by name, from the same folders as this process.",
                        'Keep it in a module that can be imported, or run it here with engine="serial".',
                    )
                else:
                    done, worker.trial = worker.trial, None
                    assert done is not None
                    part.on_run(done, value)

    def _bury(self, worker: _Worker, waiting: deque[Trial], part: Assignment) -> None:
        self.workers.remove(worker)
        worker.stop()
        code, trial = worker.process.exitcode, worker.trial
        if trial is None:
            self.stillborn += not worker.is_ready
            if self.stillborn >= MOST_STILLBORN:
                raise TaskError(
                    f"{self.stillborn} worker processes died before they took any work (exit code {code}).",
                    "Most often there is too little memory for so many.",
                    'Ask for fewer workers, or run it here with engine="serial".',
                )
            return
        self.deaths[trial] += 1
        if self.deaths[trial] == 1:
            waiting.appendleft(trial)
            return
        message = f"its worker process died twice (exit code {code}); most often memory ran out."
        part.on_run(trial, Failure(label=trial.contender.label, seed=trial.seed, message=message))

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()


def _pickled(value: Any) -> bytes:
    made: bytes = need("cloudpickle", "lab").dumps(value)
    return made


@contextlib.contextmanager
def _interrupts_stay_here() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal: workers are born with it blocked, and end when their pipe does."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # With the first process Python starts this one, and lets interrupts through again as it does.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _main_stays_here() -> Iterator[None]:
    """Keep the caller's script from running again in each worker, so that scripts need no guard around a sweep."""
    real = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = real


def _end_with(parent: int) -> None:
    """End this process when its parent is dead, also inside of a function that tells nothing for hours."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(pipe: Any) -> None:
    """The worker: take trials until the pipe ends."""
    torch.set_num_threads(1)
    _end_with(os.getppid())

    def send(kind: str, value: Any) -> None:
        pipe.send_bytes(_pickled((kind, value)))

    with contextlib.suppress(EOFError, OSError):  # the caller is gone, and so is the reason to work
        try:
            task = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        except Exception as error:
            send("unusable", describe_error(error, where=True))
            return
        send("ready", None)
        while True:
            trial, num_steps, counted = pickle.loads(pipe.recv_bytes())
            if isinstance(task, Job):

                def goes_on(trial: Trial, count: int, metric: float) -> bool:
                    send("metric", (count, metric))
                    return bool(pickle.loads(pipe.recv_bytes()))

                send("outcome", job_outcome(task, trial, goes_on))
                send("steps", 1)
                continue
            lasting = dataclasses.replace(task, num_steps=num_steps)
            send("outcome", outcome_of(lasting, trial, lambda n: send("steps", n), counted))
