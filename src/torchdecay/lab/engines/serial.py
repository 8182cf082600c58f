"""`engine="serial"`: one run after the other, in this process."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from torchdecay.lab.engines.rounds import in_rounds
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.train import OnPoint, train
from torchdecay.lab.training.trial import Claim, Keep, OnRun, OnSteps, Trial
from torchdecay.text import describe_error


def run(
    task: Task,
    trials: Sequence[Trial],
    *,
    on_run: OnRun,
    on_step: OnSteps = lambda n: None,
    keep: Keep | None = None,
    claim: Claim = lambda trial: True,
) -> None:
    """Train the trials in order; see `engines.engine` for the arguments."""

    def run_all(task: Task, trials: Sequence[Trial], counted: int, on_run: OnRun) -> None:
        for trial in trials:
            # In a later round the trial is ours already.
            if counted or claim(trial):
                on_run(trial, outcome_of(task, trial, on_step, counted))

    in_rounds(run_all, task, trials, on_run=on_run, keep=keep)


def outcome_of(
    task: Task,
    trial: Trial,
    on_step: OnSteps,
    counted: int = 0,
    *,
    on_point: OnPoint | None = None,
    resume: Mapping[str, Any] | None = None,
) -> TrainingRun | Failure:
    """Train one trial; what it raises becomes a `Failure`. Steps beyond `counted` are told to `on_step`."""
    reported = counted

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
            with_line=False,
            monitor=False,
            on_point=on_point,
            resume=resume,
        )
    except Exception as error:
        return Failure(
            label=trial.contender.label,
            seed=trial.seed,
            message=describe_error(error, where=True),
            traceback=traceback.format_exc(),
        )
