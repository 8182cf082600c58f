"""The loss along a straight line through a solution, with the decay's penalty where it has one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchdecay.lab.tasks.task import Data, Task, evaluate
from torchdecay.lab.training.results import LineScan
from torchdecay.lab.training.setup import Setup
from torchdecay.optimizers.cards import native_of, settled_factor
from torchdecay.optimizers.steps import is_matched
from torchdecay.plans.decay import Decay, Scale, Site
from torchdecay.plans.schedules import Constant
from torchdecay.plans.tree import parameters_by_name

ALPHAS = tuple(round(0.05 * i, 2) for i in range(31))
"""From all decaying weights at zero to half as long again as the solution; 1 is the solution."""

MOST_ROWS = 5000
"""A scan looks at no more rows than the first so many of each part: thirty-one points must not outlast the training."""


def scan(task: Task, setup: Setup, data: Data, watched: Mapping[str, Tensor]) -> LineScan:
    """Measure the loss at θ(α) = α·θ*, the decaying weights only; the model is put back bit for bit."""
    model = setup.model
    solution = {name: weight.detach().clone() for name, weight in watched.items()}
    train, test = ((x[:MOST_ROWS], y[:MOST_ROWS]) for x, y in (data.train, data.test))
    train_loss, test_loss = [], []
    try:
        for alpha in ALPHAS:
            _place(watched, solution, alpha)
            train_loss.append(evaluate(task, model, train)[0])
            test_loss.append(evaluate(task, model, test)[0])
    finally:
        _place(watched, solution, 1.0)
    squared_norm = sum(float(weight.double().square().sum()) for weight in solution.values())
    if any(row.decay is not None for row in setup.plan.rows):
        penalty, note = _penalty(setup, watched)
    else:
        penalty, note = _illustration(max(train_loss[0], train_loss[ALPHAS.index(1.0)]), squared_norm)
    return LineScan(
        alphas=ALPHAS,
        train_loss=tuple(train_loss),
        test_loss=tuple(test_loss),
        squared_norm=squared_norm,
        penalty=penalty,
        note=note,
    )


@torch.no_grad()
def _place(watched: Mapping[str, Tensor], solution: Mapping[str, Tensor], alpha: float) -> None:
    for name, weight in watched.items():
        weight.copy_(solution[name] if alpha == 1.0 else alpha * solution[name])


def _illustration(loss: float, squared_norm: float) -> tuple[tuple[float, ...] | None, str]:
    """For a run without decay: the L2 penalty of the largest power of ten that stays near the loss in size."""
    if not (0 < loss < math.inf and 0 < squared_norm < math.inf):
        return None, "No decay, so no penalty."
    wd = 10.0 ** math.floor(math.log10(4 * loss / squared_norm))
    penalty = tuple(wd / 2 * squared_norm * alpha**2 for alpha in ALPHAS)
    return penalty, f"No decay here; the penalty is the one that weight decay {wd:g} would add, {wd:g}/2·‖w‖²."


@torch.no_grad()
def _penalty(setup: Setup, watched: Mapping[str, Tensor]) -> tuple[tuple[float, ...] | None, str]:
    """λ·R along the line for a plan that decays something, or None and why there is none."""
    decayed, optimizer = [row for row in setup.plan.rows if row.decay is not None], setup.optimizer
    tensors = parameters_by_name(setup.model)
    groups: dict[int, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        groups |= {id(param): group for param in group["params"]}
    total = [0.0] * len(ALPHAS)
    for row in decayed:
        weight, decay = tensors[row.name], row.decay
        assert decay is not None
        factor = penalty_factor(decay, optimizer, groups[id(weight)], weight)
        if factor is None:
            return None, (
                f"{decay!r} under {type(optimizer).__name__} is the gradient of no penalty, "
                "so there is no sum to draw: it shrinks weights whatever the loss says."
            )
        exact = weight.double()
        for i, alpha in enumerate(ALPHAS):
            moved = alpha * exact if row.name in watched else exact
            total[i] += factor * decay.coefficient * float(decay.regularizer.value(moved))
    return tuple(total), f"λ·R of {decayed[0].decay!r}, summed over {len(decayed)} parameters."


def penalty_factor(decay: Decay, optimizer: Optimizer, group: Mapping[str, Any], weight: Tensor) -> float | None:
    """What to multiply λ·R by, so that training with this decay settles where loss + penalty is least.

    1 for a penalty and for coupled decay on any optimizer; c_t/η_t for decoupled decay on plain SGD, where one step is
    the same; 1 for a proximal step whose threshold follows the optimizer. None where no such penalty exists (decoupled
    decay under an adaptive optimizer) or it is not known here (references, masks, gates, controllers, schedules).
    """
    if decay.reference is not None or decay.mask is not None or decay.gate is not None:
        return None
    if decay.steering is not None or decay.schedule != Constant():
        return None
    if decay.site is Site.NATIVE:
        known = native_of(optimizer, group)
        if known is None:
            return None
        decay = known.resolve(decay)
    scale = decay.scale
    if decay.site in (Site.LOSS, Site.GRADIENT):
        return 1.0
    plain = settled_factor(optimizer, group) is not None and not group["momentum"]
    if decay.proximal and scale is Scale.LR and is_matched(optimizer, group, weight, decay.regularizer):
        return 1.0
    lr = float(group["lr"])
    if not plain or lr == 0.0 or scale.needs_max_lr:
        return None
    return scale.factor(lr, None) / lr
