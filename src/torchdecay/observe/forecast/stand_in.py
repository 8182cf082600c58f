"""An optimizer for a plan by itself: made from its class, on parameters without memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from torchdecay.errors import ApplyError, UnitError
from torchdecay.plans.plan import Plan
from torchdecay.plans.rows import Row


def stand_in(plan: Plan, make: Callable[..., Any], lr: float | None) -> Optimizer:
    """The optimizer that a class, or a function like one, builds for the rows of a plan, a group for each decay.

    Raises:
        UnitError: rows without a learning rate among their options, and no `lr`.
        ApplyError: `make` can't be built on this plan, or builds no optimizer.
    """
    groups = [_group(rows, lr) for rows in rows_alike(plan)]
    name = getattr(make, "__name__", repr(make))
    try:
        made = make(groups)
    except (TypeError, ValueError) as error:
        raise ApplyError(
            f"{name} can't be built for this plan: {error}", fix="Give the optimizer itself: optimizer=optimizer."
        ) from error
    if not isinstance(made, Optimizer):
        raise ApplyError(
            f"optimizer={name} made a {type(made).__name__}.", fix="Give an optimizer, or the class of one."
        )
    return made


def _group(rows: list[Row], lr: float | None) -> dict[str, Any]:
    own = dict(rows[0].options)
    if lr is None and "lr" not in own:
        raise UnitError("the optimizer is given by its class, and the run has no learning rate.",
                        fix="Write td.Run(lr=...).")  # fmt: skip
    params = [nn.Parameter(torch.empty(row.shape, dtype=getattr(torch, row.dtype), device="meta")) for row in rows]
    return {"params": params, "param_names": [row.name for row in rows], "lr": lr} | own


def rows_alike(plan: Plan) -> list[list[Row]]:
    """The rows of a plan, those with the same decay and options together."""
    found: list[list[Row]] = []
    for row in plan.rows:
        for rows in found:
            if rows[0].decay == row.decay and rows[0].options == row.options:
                rows.append(row)
                break
        else:
            found.append([row])
    return found
