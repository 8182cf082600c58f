"""`engine="ray"`: one run per worker of a Ray cluster, or of a Ray that is started here; for any task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from torchdecay.arguments import check_count
from torchdecay.errors import TaskError
from torchdecay.lab.engines.jobs import num_cores
from torchdecay.lab.engines.ray.cluster import connected
from torchdecay.lab.engines.ray.tuning import tune_all
from torchdecay.lab.engines.rounds import in_rounds
from torchdecay.lab.jobs.job import Job
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.trial import Assignment, Keep
from torchdecay.text import repr_quoted


def session(
    task: Task | Job,
    *,
    workers: int | None = None,
    address: str | None = None,
    num_cpus: float | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    timeout: float = 30.0,
    **others: Any,
) -> AbstractContextManager[None]:
    """A Ray that several calls of `run` inside the block share; the arguments are those of `run`."""
    cpus = _cpus(task, num_cpus)
    _check(None, workers, cpus, 0.0, "asha", 0.0, timeout)
    wanted = max(1, num_cores()) if workers is None else max(1, math.ceil(workers * cpus))
    return connected(address, num_cpus=wanted, runtime_env=runtime_env, timeout=timeout)


def run(
    assignment: Assignment,
    *,
    workers: int | None = None,
    address: str | None = None,
    num_cpus: float | None = None,
    num_gpus: float = 0.0,
    scheduler: Any = "asha",
    storage: str | None = None,
    checkpoint_seconds: float = 60.0,
    runtime_env: Mapping[str, Any] | None = None,
    timeout: float = 30.0,
) -> None:
    """Train the trials with Ray Tune, each in a worker of its own.

    The numbers are to the bit those of `serial` on equal machines: the same loop with the same number of threads. A
    worker that dies costs what it did since its last checkpoint: the run is tried once more and goes on from there.

    With `keep`, who goes on is decided without waiting for the slower ones (asynchronous successive halving, arXiv
    1810.05934): a run that reaches a rung is measured against those that have been there. So another order of arrival
    can stop others than the synchronous engines do; `scheduler="rounds"` waits, and stops the same.

    A Ray that the calling process is connected to already is used and left running, as is one at an address; one that
    is started here ends with the call.

    Args:
        assignment: what to run; the task travels to the workers, so it must pickle (functions and lambdas do).
        workers: how many trials at once; None takes as many as there are resources.
        address: "HOST:PORT" of a running cluster's head, or "auto"; None takes $RAY_ADDRESS, or starts Ray here.
        num_cpus: CPUs of a trial; None takes the task's threads.
        num_gpus: GPUs of a trial, parts of one included.
        scheduler: "asha" or "rounds" for `keep`, or a scheduler of `ray.tune.schedulers` that reads "measure" (more is
            better) and "steps", both reported at every point of the curves.
        storage: a folder that all nodes share, or a bucket's URL, for checkpoints; None takes a temporary folder, and
            makes checkpoints only where there is a single node.
        checkpoint_seconds: time from one checkpoint of a run to the next.
        runtime_env: what Ray brings to other machines, {"working_dir": "."} for the task's own modules.
        timeout: seconds until an address must have answered.

    Raises:
        TaskError: options that mean nothing, a cluster that does not answer or has no such resources, a task that does
            not pickle or that workers can't use.
        MissingExtra: Ray is not installed.
    """
    task, keep = assignment.task, assignment.keep
    cpus = _cpus(task, num_cpus)
    _check(keep, workers, cpus, num_gpus, scheduler, checkpoint_seconds, timeout)
    tune = partial(
        tune_all,
        cpus=cpus,
        gpus=float(num_gpus),
        workers=workers,
        storage=storage,
        checkpoint_seconds=checkpoint_seconds,
        scheduler=None if isinstance(scheduler, str) else scheduler,
    )
    with session(task, workers=workers, address=address, num_cpus=num_cpus, runtime_env=runtime_env, timeout=timeout):
        if keep is not None and scheduler == "asha":
            tune(assignment, 0, keep=keep)
        else:
            in_rounds(tune, assignment)


def _cpus(task: Task | Job, wanted: float | None) -> float:
    if wanted is not None:
        return float(wanted)
    return 1.0 if isinstance(task, Job) else float(task.num_threads or 1)


def _check(
    keep: Keep | None, workers: int | None, cpus: float, gpus: float, scheduler: Any, pause: float, timeout: float
) -> None:
    if workers is not None:
        check_count(workers, "the number of workers", error=TaskError)
    if not cpus > 0 or not gpus >= 0:
        raise TaskError(f"a trial gets {cpus:g} CPUs and {gpus:g} GPUs.", fix="Give it some CPU: num_cpus=1.")
    if not pause >= 0 or not timeout > 0:
        raise TaskError(
            f"checkpoint_seconds is {pause!r} and timeout is {timeout!r}.", fix="Give both in seconds, above 0."
        )
    if isinstance(scheduler, str) and scheduler not in ("asha", "rounds"):
        raise TaskError(
            f"there is no scheduler {repr_quoted(scheduler)}.",
            fix='Write "asha", "rounds", or give one of ray.tune.schedulers.',
        )
    if keep is not None and not isinstance(scheduler, str):
        raise TaskError(
            f"successive halving and the scheduler {type(scheduler).__name__} would both stop runs.",
            fix='Search by "grid" with a scheduler of your own, or halve with scheduler="asha".',
        )
