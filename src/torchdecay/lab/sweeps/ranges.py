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
    """The search with the ends that it does not have: powers of ten between which decay acts within a run of the task.

    Where what a coefficient takes is no fixed fraction of a weight, it counts as if the learning rate times it were.
    """
    if search.low is not None and search.high is not None:
        return search
    scale = max(search.lr_scales)
    contender = maker.contender(Candidate((PROBE,) * maker.num_values), scale)
    found = meaning_of(task, model, contender, lr_scale=scale)
    mean, most = found.fraction, found.max_fraction
    if not mean or not most:
        with Setup.make(task, model, contender, lr_scale=scale) as setup:
            mean = most = PROBE * max(float(group["lr"]) for group in setup.optimizer.param_groups)
    weakest = LEAST_SHRINK / task.num_steps * PROBE / mean
    strongest = MOST_TIMES / task.num_steps * PROBE / mean
    high = min(round(math.log10(strongest)), math.floor(math.log10(MOST_FRACTION * PROBE / most)))
    low = min(round(math.log10(weakest)), high - 1)
    return search.within(float(f"1e{low}"), float(f"1e{high}"))
