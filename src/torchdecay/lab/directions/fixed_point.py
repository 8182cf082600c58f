"""Where training with decay comes to rest: the pull that balances the gradient there, parameter by parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from torchdecay.errors import TaskError
from torchdecay.optimizers.cards import native_of, settled_factor
from torchdecay.optimizers.peaks import peak_of
from torchdecay.plans.decay import Decay, Scale, Site
from torchdecay.plans.plan import Plan
from torchdecay.plans.schedules import Constant
from torchdecay.plans.tree import parameters_by_name


def pulls_of(model: nn.Module, plan: Plan, optimizer: Optimizer | None) -> dict[str, float]:
    """Parameter → the k with ∇L(w) + k·w = 0 at rest, for the parameters that decay.

    k is the decay's coefficient times numbers that training does not change, so that ln k and ln λ move alike. Decays
    in the gradient or the loss need no optimizer.
    """
    tensors = parameters_by_name(model)
    places: dict[int, int] = {}
    for index, group in enumerate(optimizer.param_groups if optimizer is not None else ()):
        places |= {id(param): index for param in group["params"]}
    made = {}
    for row in plan.rows:
        if row.decay is None or row.decay.coefficient == 0:
            continue
        place = places.get(id(tensors[row.name]))
        if optimizer is not None and place is None:
            raise TaskError(f"the optimizer does not train {row.name}.", fix="Pass the one that trained the model.")
        made[row.name] = _pull(row.name, row.decay, optimizer, place)
    if not made:
        raise TaskError(
            "nothing decays, so there is no coefficient to move.", fix='Begin with a small one, "decoupled:1e-4" say.'
        )
    return made


def _pull(name: str, decay: Decay, optimizer: Optimizer | None, place: int | None) -> float:
    if not decay.is_plain_l2 or decay.site is Site.AFTER:
        raise TaskError(
            f"{name} decays by {decay!r}, and what balances that is not known here.",
            "It is for plain L2 toward zero before the update, in the gradient or in the loss.",
            'Use one of those, or direction(..., method="differences").',
        )
    if not isinstance(decay.schedule, Constant):
        raise TaskError(
            f"{name} decays by {decay!r}, on a schedule.",
            "While the coefficient moves, so does the place where training would come to rest.",
            'Leave the schedule out, or use direction(..., method="differences").',
        )
    if decay.site in (Site.GRADIENT, Site.LOSS):
        return decay.coefficient
    if optimizer is None or place is None:
        raise TaskError(
            f"{name} decays by {decay!r}, and what balances that depends on the optimizer.", fix="Pass optimizer=..."
        )
    group = optimizer.param_groups[place]
    native = native_of(optimizer, group) if decay.site is Site.NATIVE else None
    if native is not None and native.site is Site.GRADIENT:
        return decay.coefficient
    settled = settled_factor(optimizer, group)
    if settled is None:
        raise TaskError(
            f"{name} decays by {decay!r} under {type(optimizer).__name__}.",
            "There the decay is balanced by the update, whose size follows the history of the gradients and not the "
            "gradient: training has no place of rest that the loss and the coefficient alone determine.",
            'Use coupled or penalized, or direction(..., method="differences").',
        )
    # At rest the momentum buffer holds so many gradients.
    return _relative(decay, group, place) / settled


def _relative(decay: Decay, group: Mapping[str, Any], place: int) -> float:
    """λ·c_t/η_t: what the decay takes, in units of what the learning rate gives."""
    lr = float(group["lr"])
    if decay.scale is Scale.LR:
        return decay.coefficient
    if decay.scale is Scale.LR_RATIO:
        return decay.coefficient / peak_of(decay, group, place)
    if lr == 0.0:
        raise TaskError(
            f"{decay!r} ends at learning rate 0.",
            "Its weight beside the gradient follows the learning rate, so there is no place of rest.",
            "Use decoupled.",
        )
    peak = peak_of(decay, group, place) if decay.scale.needs_max_lr else None
    return decay.coefficient * decay.scale.factor(lr, peak) / lr
