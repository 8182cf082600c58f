"""From a plan to parameter groups."""

from __future__ import annotations

from typing import Any

from torch import nn

from torchdecay.errors import PlanError, listed, nearest
from torchdecay.plan.census import parameters_by_name
from torchdecay.plan.decay import Decay, Site
from torchdecay.plan.plan import Plan, Row, plan
from torchdecay.plan.policies import STANDARD
from torchdecay.plan.rules import as_rules, rule
from torchdecay.plan.schedules import Constant

MARK = "torchdecay"
"""The key that says, in a parameter group, who carries out its decay."""


def needs_attach(decay: Decay | None) -> bool:
    """Whether a constructor's `weight_decay` can't carry this decay out on its own."""
    return decay is not None and not (decay.site is Site.NATIVE and decay.schedule == Constant())


def build(made: Plan, model: nn.Module, options: dict[str, Any]) -> list[dict[str, Any]]:
    """`Plan.param_groups`, which documents it."""
    if "weight_decay" in options or "params" in options:
        raise PlanError(
            "param_groups() takes no weight_decay or params: the plan decides them.",
            fix="Give the decay to td.plan(model, decay) and a rule to what differs.",
        )
    tensors = parameters_by_name(model)
    _require_same_model(made, tensors)
    groups: list[tuple[Decay | None, tuple[tuple[str, Any], ...], list[Row]]] = []
    for row in made.rows:
        # Compared by value, not hashed: an option may be a tensor or a list.
        for decay, extra, rows in groups:
            if decay == row.decay and _same_options(extra, row.options):
                rows.append(row)
                break
        else:
            groups.append((row.decay, row.options, [row]))
    return [
        {"params": [tensors[row.name] for row in rows], "param_names": [row.name for row in rows]}
        | options
        | dict(extra)
        | {"weight_decay": 0.0 if decay is None or needs_attach(decay) else decay.coefficient}
        | ({MARK: f"not attached: {decay!r}"} if needs_attach(decay) else {})
        for decay, extra, rows in groups
    ]


def param_groups(
    model: nn.Module, wd: Decay | float | None, *, rules: Any = STANDARD, skip: Any = (), **options: Any
) -> list[dict[str, Any]]:
    """Parameter groups that spare what should not decay, for any torch optimizer's constructor.

    The short way for `td.plan(model, wd, rules=...).param_groups(model, ...)`.

    Args:
        model: the model to train; frozen parameters are left out.
        wd: a number, the optimizer's own weight_decay, or a Decay (which then needs `torchdecay.attach`).
        rules: who decays; `torchdecay.STANDARD` or any rules.
        skip: more to spare: patterns, module classes or selectors, `"*.embed.*"` say; each must match something.
        options: keys for every group: lr, momentum, betas.

    Returns:
        A list of dicts with `params`, `param_names`, `weight_decay` and the options; none is empty.

    Raises:
        PlanError: see `torchdecay.plan`.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
        >>> optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=1e-3)
        >>> [(group["weight_decay"], group["param_names"]) for group in optimizer.param_groups]
        [(0.1, ['0.weight']), (0.0, ['0.bias', '1.weight', '1.bias'])]
    """
    skipped = (skip,) if isinstance(skip, (str, type)) or not hasattr(skip, "__iter__") else skip
    spared = tuple(rule(selector, None) for selector in skipped)
    return plan(model, wd, rules=(*spared, *as_rules(rules))).param_groups(model, **options)


def _same_options(left: tuple[tuple[str, Any], ...], right: tuple[tuple[str, Any], ...]) -> bool:
    return len(left) == len(right) and all(
        a[0] == b[0] and (a[1] is b[1] or bool(a[1] == b[1])) for a, b in zip(left, right, strict=True)
    )


def _require_same_model(made: Plan, tensors: dict[str, nn.Parameter]) -> None:
    lacking = [row.name for row in made.rows if row.name not in tensors]
    if lacking:
        raise PlanError(
            f"the plan was made for another model: this one has no {listed(lacking)}.",
            fix=nearest(lacking[0], tensors) or "Make the plan from this model: td.plan(model, ...).",
        )
    reshaped = [row.name for row in made.rows if tuple(tensors[row.name].shape) != row.shape]
    if reshaped:
        name = reshaped[0]
        raise PlanError(
            f"the plan was made for another model: {listed(reshaped)} has another shape "
            f"({tuple(tensors[name].shape)} here, {made[name].shape} in the plan).",
            fix="Make the plan from this model: td.plan(model, ...).",
        )
    planned = {name for row in made.rows for name in row.names}
    extra = [name for name, tensor in tensors.items() if tensor.requires_grad and name not in planned]
    if extra:
        raise PlanError(
            f"the plan was made for another model: it has no row for {listed(extra)}.",
            "Every trainable parameter must be in exactly one row; was it frozen when the plan was made?",
            "Make the plan from this model as it is now: td.plan(model, ...).",
        )
