"""`attach_each`: one plan on many optimizers, where each steps as soon as its gradients are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from torchdecay.apply.attach import attach
from torchdecay.apply.handle import Handle
from torchdecay.errors import ApplyError
from torchdecay.optimizers.wrappers import torch_optimizer
from torchdecay.plans.controllers import GradientNormRatio, Stable
from torchdecay.plans.decay import Decay
from torchdecay.plans.plan import Plan
from torchdecay.plans.planning import plan as make_plan


def attach_each(
    optimizers: Iterable[Optimizer] | Mapping[Any, Optimizer],
    plan: Plan | Decay | float,
    *,
    model: nn.Module,
    **options: Any,
) -> tuple[Handle, ...]:
    """Carry one plan out on many optimizers: one for each weight, stepped in backward, or one for each part of a model.

    Each has its part of the plan, and counts its own steps. What is measured on one tensor is as under one optimizer.
    `adaptive` and `stable` measure all gradients of a step together, which are never there together in backward: they
    are refused where several optimizers share them. If one optimizer can't carry its part out, none has it.

    Args:
        optimizers: the optimizers, or a dictionary of them, {parameter: optimizer} say.
        plan: a `Plan` of the model; or a Decay or number, planned with the standard rules.
        model: the model that all of them train.
        options: further arguments of `torchdecay.attach`.

    Returns:
        A `Handle` for each optimizer, in their order.

    Raises:
        ApplyError: no optimizers, a weight that two of them have, or what `torchdecay.attach` refuses.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizers = {param: torch.optim.AdamW([param]) for param in model.parameters()}
        >>> def step(param):
        ...     optimizers[param].step()
        ...     optimizers[param].zero_grad()
        >>> hooks = [param.register_post_accumulate_grad_hook(step) for param in model.parameters()]
        >>> handles = td.attach_each(optimizers, td.decoupled(0.1), model=model)
        >>> model(torch.ones(2)).sum().backward()
        >>> [handle.steps(0) for handle in handles]
        [1, 1]
    """
    given = list(optimizers.values()) if isinstance(optimizers, Mapping) else list(optimizers)
    planned = plan if isinstance(plan, Plan) else make_plan(model, plan)
    _check(given, planned, model)
    handles: list[Handle] = []
    try:
        for optimizer in given:
            handles.append(attach(optimizer, planned, model=model, **options))
    except Exception:
        for handle in handles:
            handle.remove()
        raise
    return tuple(handles)


def _check(optimizers: list[Any], plan: Plan, model: nn.Module) -> None:
    """Refuse what would decay twice, or by a norm of a part."""
    if not optimizers:
        raise ApplyError("there are no optimizers.", fix="Give them all: the list, or the dictionary that holds them.")
    owner: dict[int, int] = {}
    for place, optimizer in enumerate(optimizers):
        for param in (one for group in torch_optimizer(optimizer).param_groups for one in group["params"]):
            if owner.setdefault(id(param), place) != place:
                raise ApplyError(
                    f"optimizers {owner[id(param)]} and {place} have a weight of shape {tuple(param.shape)} in common.",
                    "It would decay twice per step.",
                    "Give each weight to one of them.",
                )
    held = {name: owner.get(id(param)) for name, param in model.named_parameters(remove_duplicate=False)}
    decays = dict.fromkeys(row.decay for row in plan if row.decay is not None)
    for decay in (one for one in decays if isinstance(one.controller, (GradientNormRatio, Stable))):
        rows = [row for row in plan if row.decay == decay]
        places = {held.get(name) for row in rows for name in row.names} - {None}
        if len(places) > 1:
            raise ApplyError(
                f"{decay!r} goes by the gradients of all its weights together, which are on {len(places)} optimizers.",
                "Each would go by its own part, which is another form.",
                "Use one optimizer for them, or a form that looks at one tensor: decoupled, norm_control, ...",
            )
