"""What a decay means on a task: the fraction per step, the half-life, and how much of the run that is."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.contenders import Contender
from torchdecay.lab.training.setup import Setup
from torchdecay.observe.fractions import half_life, log_retention
from torchdecay.observe.pulls import Expectation, expectations
from torchdecay.plans.decay import Site


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a coefficient does to a weight that no gradient moves.

    Attributes:
        label: which point of the sweep.
        fraction: removed per step, at the largest learning rate of the run; None where it is no fraction.
        half_life: steps until half is left at that fraction; None where it is no fraction, infinite without decay.
        share_of_run: the half-life as a share of the run's steps.
        total_shrink: 1 − ∏(1 − fraction) over the run's own learning rates.
        why: why there is no fraction, or "".
    """

    label: str
    fraction: float | None = None
    half_life: float | None = None
    share_of_run: float | None = None
    total_shrink: float | None = None
    why: str = ""


def meaning_of(task: Task, model: nn.Module, contender: Contender, *, lr_scale: float = 1.0) -> Meaning:
    """Set a model of the task up with this decay and read what it does to most of the elements that decay.

    Raises:
        TaskError, PlanError, ApplyError, DecayError: the decay does not fit the task.
    """
    if contender.what is None:
        return Meaning(label=contender.label, fraction=0.0, half_life=math.inf, share_of_run=math.inf, total_shrink=0.0)
    with Setup.make(task, model, contender, lr_scale=lr_scale) as setup:
        expected = expectations(setup.optimizer, None, model)
        elements: Counter[tuple[int, int]] = Counter()
        kinds: dict[tuple[int, int], Expectation] = {}
        for index, group in enumerate(setup.optimizer.param_groups):
            for param in group["params"]:
                one = expected[id(param)]
                if one.decay is not None:
                    kinds[index, id(one)] = one
                    elements[index, id(one)] += param.numel()
        if not elements:
            return Meaning(label=contender.label, why="nothing decays")
        most = elements.most_common(1)[0][0]
        lrs = learning_rates(task, setup.optimizer, most[0])
        momentum = bool(setup.optimizer.param_groups[most[0]].get("momentum"))
        optimizer = type(setup.optimizer).__name__
    one = kinds[most]
    assert one.decay is not None
    if one.unsayable:
        return Meaning(label=contender.label, why=one.unsayable)
    after = one.decay.site in (Site.BEFORE, Site.AFTER)
    if not one.is_plain or not (after or (optimizer == "SGD" and not momentum)):
        return Meaning(
            label=contender.label,
            why=f"{one.decay!r} under {optimizer} does not remove a fixed fraction of each weight",
        )
    fractions = [one.amount(lr, step) * (1.0 if after else lr) for step, lr in enumerate(lrs)]
    peak = max(fractions)
    kept = math.fsum(map(log_retention, fractions))
    return Meaning(
        label=contender.label,
        fraction=peak,
        half_life=half_life(peak),
        share_of_run=half_life(peak) / task.num_steps,
        total_shrink=-math.expm1(kept),
    )


def learning_rates(task: Task, optimizer: Optimizer, index: int) -> list[float]:
    """The group's learning rate at each step, by running the scheduler; the optimizer takes no step."""
    group = optimizer.param_groups[index]
    if task.scheduler is None:
        return [float(group["lr"])] * task.num_steps
    scheduler, found = task.scheduler(optimizer), []
    with warnings.catch_warnings():
        # No step is taken, and torch warns of schedulers that run ahead.
        warnings.simplefilter("ignore")
        for _ in range(task.num_steps):
            found.append(float(group["lr"]))
            scheduler.step()
    return found
