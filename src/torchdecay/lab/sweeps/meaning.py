"""What a decay means on a task: the fraction per step, the half-life, and how much of the run that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from torchdecay.errors import TorchdecayError
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.contenders import Contender
from torchdecay.lab.training.setup import Setup
from torchdecay.observe.forecast.forecast import forecast
from torchdecay.observe.forecast.result import Forecast
from torchdecay.observe.run import Run
from torchdecay.text import describe_error


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a coefficient does to a weight that no gradient moves.

    Attributes:
        label: which point of the sweep.
        fraction: removed per step, the mean over the run; None where it is no fixed fraction.
        max_fraction: the largest of any step.
        half_life: steps until half is left at that fraction; None where there is none, infinite without decay.
        share_of_run: the half-life as a share of the run's steps.
        total_shrink: 1 − ∏(1 − fraction) over the run.
        why: why there is no fraction, or "".
    """

    label: str
    fraction: float | None = None
    max_fraction: float | None = None
    half_life: float | None = None
    share_of_run: float | None = None
    total_shrink: float | None = None
    why: str = ""


def meaning_of(task: Task, model: nn.Module, contender: Contender, *, lr_scale: float = 1.0) -> Meaning:
    """Forecast on a model of the task what this decay does to most of the elements that decay."""
    if contender.what is None:
        return Meaning(label=contender.label, fraction=0.0, half_life=math.inf, share_of_run=math.inf, total_shrink=0.0)
    try:
        with Setup.make(task, model, contender, lr_scale=lr_scale) as setup:
            scheduler = None if task.scheduler is None else task.scheduler(setup.optimizer)
            made = forecast(setup.optimizer, run=Run(steps=task.num_steps, lr_schedule=scheduler), model=model)
    except Exception as error:
        # A value that does not fit the task has failed as a run; a scheduler of one's own may refuse to be copied.
        why = error.what if isinstance(error, TorchdecayError) else describe_error(error)
        return Meaning(label=contender.label, why=why)
    return said_by(made, contender.label, task.num_steps)


def said_by(made: Forecast, label: str, num_steps: int) -> Meaning:
    """What a forecast says of most of the elements that decay, over so many steps."""
    pulled = [group for group in made.groups if group.decay != "none"]
    if not pulled:
        return Meaning(label=label, why="nothing decays")
    one = max(pulled, key=lambda group: group.num_elements)
    if one.prediction != "exact" or one.why or one.half_life is None or one.fraction is None:
        why = f"{one.decay} under {one.optimizer} does not remove a fixed fraction of each weight: {one.why}"
        return Meaning(label=label, why=why)
    return Meaning(
        label=label,
        fraction=one.fraction,
        max_fraction=one.max_fraction,
        half_life=one.half_life,
        share_of_run=one.half_life / num_steps,
        total_shrink=one.total_shrink if one.num_steps == num_steps else 1 - (1 - one.fraction) ** num_steps,
    )
