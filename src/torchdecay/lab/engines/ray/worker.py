"""What runs in Ray's workers: one trial, its steps told now and then, a checkpoint now and then, its outcome."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from torchdecay.lab.engines.jobs import job_outcome
from torchdecay.lab.engines.rounds import deciding
from torchdecay.lab.engines.serial import outcome_of
from torchdecay.lab.jobs.job import Job
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.running import Running
from torchdecay.lab.training.trial import Trial
from torchdecay.text import describe_error

TELL_SECONDS = 0.5
FILE = "training.pt"
INDEX = "index"


class _Over(BaseException):
    """Ray ends this run: its SystemExit, past all that takes one for the user's."""


def work(
    config: Mapping[str, int],
    *,
    payload: bytes,
    folders: tuple[str, ...],
    num_steps: int,
    rungs: tuple[int, ...],
    every_point: bool,
    checkpoint_seconds: float | None,
) -> None:
    """Train the trial that `config` names to `num_steps`; everything goes to the caller by reports.

    `folders` are where the caller works and looks for modules: what this machine has of them is used. At rungs, or at
    every point, a report asks whether to go on.
    """
    from ray import tune

    torch.set_num_threads(1)
    with contextlib.suppress(OSError):
        os.chdir(folders[0])
    sys.path += [folder for folder in folders[1:] if folder not in sys.path]
    try:
        task, trials = pickle.loads(payload)
    except Exception as error:
        tune.report({"unusable": describe_error(error, where=True)})
        return
    trial = trials[config[INDEX]]
    try:
        if isinstance(task, Job):
            outcome = _job_outcome(task, trial)
        else:
            reports = _Reports(task, trial, rungs, every_point, checkpoint_seconds)
            lasting = dataclasses.replace(task, num_steps=num_steps)
            outcome = outcome_of(lasting, trial, reports.on_step, on_point=reports.on_point, resume=_saved())
    except _Over:
        sys.exit(0)
    tune.report({"outcome": outcome})


def _job_outcome(job: Job, trial: Trial) -> TrainingRun | Failure:
    """A run of a job, of which every metric is reported; the report of one that is not to go on ends this thread."""
    told: list[TrainingRun] = []

    def goes_on(trial: Trial, count: int, metric: float) -> bool:
        _report({"count": count, "measure": metric, "so_far": told.pop()})
        return True

    # Ray has set CUDA_VISIBLE_DEVICES to what the trial asked for.
    return job_outcome(job, trial, goes_on, so_far=lambda run: told.__setitem__(slice(None), [run]))


class _Reports:
    """Says how far a trial is, not more often than is needed."""

    def __init__(
        self, task: Task, trial: Trial, rungs: tuple[int, ...], every_point: bool, checkpoint_seconds: float | None
    ) -> None:
        self.trial = trial
        self._task, self._rungs, self._every_point = task, rungs, every_point
        self._pause = checkpoint_seconds
        self._steps = 0
        self._told = self._saved = time.monotonic()

    def on_step(self, count: int) -> None:
        self._steps += count
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._tell({"steps": self._steps})

    def on_point(self, running: Running) -> None:
        from ray import tune

        point = running.record.steps[-1]
        if self._every_point or point in self._rungs:
            so_far = running.run
            self._tell({"steps": point, "measure": deciding(self._task, so_far), "so_far": so_far})
        if self._pause is not None and time.monotonic() - self._saved >= self._pause:
            with tempfile.TemporaryDirectory() as folder:
                torch.save(running.state_dict(), Path(folder) / FILE)
                self._tell({"steps": point}, tune.Checkpoint.from_directory(folder))
            self._saved = time.monotonic()

    def _tell(self, values: dict[str, Any], checkpoint: Any = None) -> None:
        _report(values, checkpoint)
        self._told = time.monotonic()


def _report(values: dict[str, Any], checkpoint: Any = None) -> None:
    from ray import tune

    try:
        tune.report(values, checkpoint=checkpoint)
    except SystemExit as end:
        raise _Over from end


def _saved() -> dict[str, Any] | None:
    """Where an earlier try of this trial was; None where it was nowhere, or left what can't be read."""
    from ray import tune

    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder, contextlib.suppress(Exception):
        state: dict[str, Any] = torch.load(Path(folder) / FILE, weights_only=True)
        return state
    return None
