"""`engine="serial"`: one run after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torchdecay.errors import RAISED
from torchdecay.lab.engines.jobs import run_here
from torchdecay.lab.engines.rounds import in_rounds
from torchdecay.lab.jobs.job import Job
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.train import OnPoint, train
from torchdecay.lab.training.trial import Assignment, Trial


def run(assignment: Assignment) -> None:
    """Train the trials in order."""
    if isinstance(assignment.task, Job):
        return run_here(assignment, assignment.task)

    def run_all(part: Assignment, counted: int) -> None:
        for trial in part.trials:
            if part.claim(trial):
                part.on_run(trial, outcome_of(part.training, trial, part.on_step, counted))

    in_rounds(run_all, assignment)


def outcome_of(
    task: Task,
    trial: Trial,
    on_step: Callable[[int], None],
    counted: int = 0,
    *,
    on_point: OnPoint | None = None,
    resume: Mapping[str, Any] | None = None,
) -> TrainingRun | Failure:
    """Train one trial; what it raises becomes a `Failure`. Steps beyond `counted` are told to `on_step`."""
    reported = counted
    if task.trunk is not None:
        # The steps that all share were done before.
        reported = max(counted, task.trunk[trial.seed, trial.lr_scale]["step"])

    def tell(step: int) -> None:
        nonlocal reported
        if step > reported:
            on_step(step - reported)
            reported = step

    try:
        return train(
            task,
            trial.contender,
            seed=trial.seed,
            on_step=tell,
            lr_scale=trial.lr_scale,
            with_line=trial.watched,
            monitor=trial.watched,
            on_point=on_point,
            resume=resume,
        )
    except RAISED as error:
        return Failure.of(trial.contender.label, trial.seed, error)
