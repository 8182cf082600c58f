"""From a plan to parameter groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from torchdecay.errors import PlanError
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.parameters import Parameter
from torchdecay.plans.rows import Row
from torchdecay.plans.rules import check_options
from torchdecay.plans.schedules import Constant
from torchdecay.plans.tree import Occurrence
from torchdecay.text import listed, nearest

MARK = "torchdecay"
"""The key that says, in a parameter group, who carries out its decay."""


def needs_attach(decay: Decay | None) -> bool:
    """Whether a constructor's `weight_decay` can't carry this decay out on its own."""
    return decay is not None and not (decay.site is Site.NATIVE and decay.schedule == Constant())


Held = Occurrence | Parameter
"""A parameter of a model, as a walk or a census finds it."""


def groups_of(planned: Sequence[Row], held: Mapping[str, Held], options: dict[str, Any]) -> list[dict[str, Any]]:
    """`Plan.param_groups`, which documents it, with the model's parameters by name."""
    check_options(options, "param_groups()")
    for what, why in _differences(planned, held):
        again = "Make the plan from this model as it is now: td.plan(model, ...)."
        raise PlanError(f"the plan was made for another model: {what}.", why, again)
    groups: list[tuple[dict[str, Any], Decay | None, list[Row]]] = []
    met: dict[tuple[int, int], list[Row]] = {}
    for row in planned:
        # Most rows share one decay and the same options, and need not be compared.
        key = (id(row.decay), id(row.options))
        if key not in met:
            unattached = row.decay if needs_attach(row.decay) else None
            native = 0.0 if row.decay is None or unattached else row.decay.coefficient
            settings = options | dict(row.options) | {"weight_decay": native}
            settings |= {MARK: f"not attached: {unattached!r}"} if unattached else {}
            known = (rows for other, decay, rows in groups if decay == unattached and _equal(other, settings))
            met[key] = next(known, [])
            if not met[key]:
                groups.append((settings, unattached, met[key]))
        met[key].append(row)
    return [
        {"params": [held[row.name].tensor for row in rows], "param_names": [row.name for row in rows]} | settings
        for settings, _, rows in groups
    ]


def _equal(left: dict[str, Any], right: dict[str, Any]) -> bool:
    # Each group may fill its own tensor later, so that equal numbers don't make equal tensors.
    return left.keys() == right.keys() and all(
        one is other or not (isinstance(one, Tensor) or isinstance(other, Tensor) or bool(one != other))
        for one, other in ((item, right[key]) for key, item in left.items())
    )


def _differences(rows: Sequence[Row], held: Mapping[str, Held]) -> Iterator[tuple[str, str]]:
    """What makes it another model than the plan was made for, and why that matters."""
    planned = {name: row for row in rows for name in row.names}
    if lacking := [name for name in planned if name not in held]:
        yield f"this one has no {listed(lacking)}", nearest(lacking[0], [name for name in held if name not in planned])
    if reshaped := [name for name, row in planned.items() if held[name].shape != row.shape]:
        here, there = held[reshaped[0]].shape, planned[reshaped[0]].shape
        yield f"{listed(reshaped)} has another shape ({here} here, {there} in the plan)", ""
    if extra := [name for name, one in held.items() if one.tensor.requires_grad and name not in planned]:
        why = "Every trainable parameter must be in exactly one row; was it frozen when the plan was made?"
        yield f"it has no row for {listed(extra)}", why
    if untied := [name for name, row in planned.items() if held[name].tensor is not held[row.name].tensor]:
        tied = listed([planned[untied[0]].name])
        why = "It would be in no group, and never be trained."
        yield f"{listed(untied)} was tied to {tied} there, and is a tensor of its own here", why
    first: dict[int, str] = {}
    for row in rows:
        other = first.setdefault(id(held[row.name].tensor), row.name)
        if other != row.name:
            why = "It would be in two groups, and decay twice."
            yield f"{listed([other, row.name])} are one tied tensor here, and two rows there", why
