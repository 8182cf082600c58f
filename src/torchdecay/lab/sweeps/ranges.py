"""The range of coefficients that a sweep tries where none is given: from the time scale of the task."""

from __future__ import annotations

import math

from torch import nn

from torchdecay.lab.sweeps.meaning import meaning_of
from torchdecay.lab.sweeps.search import Candidate, Search
from torchdecay.lab.sweeps.trials import TrialMaker
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.setup import Setup

LEAST_SHRINK, MOST_TIMES = 0.01, 100
"""The weakest decay takes so much of a weight in the whole run, the strongest forgets so many times in it."""
MOST_FRACTION = 0.5
"""Of a weight in one step: at 1 nothing is left of it."""
PROBE = 1e-6


def with_range(search: Search, maker: TrialMaker, task: Task, model: nn.Module) -> Search:
    """The search with the ends that it lacks: powers of ten between which decay acts within a run of the task."""
    if search.low is not None and search.high is not None:
        return search
    mean, most = fraction_of(maker, task, model, max(search.lr_scales))
    weakest = LEAST_SHRINK / task.num_steps / mean
    strongest = MOST_TIMES / task.num_steps / mean
    high = min(round(math.log10(strongest)), math.floor(math.log10(MOST_FRACTION / most)))
    low = min(round(math.log10(weakest)), high - 1)
    return search.within(float(f"1e{low}"), float(f"1e{high}"))


def fraction_of(maker: TrialMaker, task: Task, model: nn.Module, scale: float) -> tuple[float, float]:
    """What a coefficient of 1 takes of a weight in a step: the mean over the run, and the most.

    Where it is no fixed fraction of a weight, it counts as if the learning rate times it were.
    """
    contender = maker.contender(Candidate((PROBE,) * maker.num_values, scale))
    found = meaning_of(task, model, contender, lr_scale=scale)
    if found.fraction and found.max_fraction:
        return found.fraction / PROBE, found.max_fraction / PROBE
    with Setup.make(task, model, contender, lr_scale=scale) as setup:
        lr = max(float(group["lr"]) for group in setup.optimizer.param_groups)
    return lr, lr


def acting_steps(search: Search, maker: TrialMaker, task: Task, model: nn.Module) -> list[float]:
    """For each of the first candidates after about how many steps its decay has acted: 1/(2·lr·λ) under lr·λ."""
    fractions = {scale: fraction_of(maker, task, model, scale)[0] for scale in search.lr_scales}
    return [
        1 / (2 * fractions[one.lr_scale] * math.prod(one.values) ** (1 / len(one.values)))
        for one in next(search.batches(maker.num_values))
    ]
