"""From a plan to parameter groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from torchdecay.errors import PlanError
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.rows import Row
from torchdecay.plans.rules import check_options
from torchdecay.plans.schedules import Constant
from torchdecay.text import listed, nearest

MARK = "torchdecay"
"""The key that says, in a parameter group, who carries out its decay."""


def needs_attach(decay: Decay | None) -> bool:
    """Whether a constructor's `weight_decay` can't carry this decay out on its own."""
    return decay is not None and not (decay.site is Site.NATIVE and decay.schedule == Constant())


class Held(Protocol):
    """A parameter of a model: an `Occurrence`, or a `Parameter` of its census."""

    @property
    def tensor(self) -> Tensor:
        """The parameter itself."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes, outside any shard."""


def groups_of(planned: Sequence[Row], held: Mapping[str, Held], options: dict[str, Any]) -> list[dict[str, Any]]:
    """`Plan.param_groups`, which documents it, with the model's parameters by name."""
    check_options(options, "param_groups()")
    _require_same_model(planned, held)
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


def _require_same_model(rows: Sequence[Row], held: Mapping[str, Held]) -> None:
    again = "Make the plan from this model as it is now: td.plan(model, ...)."
    another = "the plan was made for another model"
    planned = {name: row for row in rows for name in row.names}
    lacking = [name for name in planned if name not in held]
    if lacking:
        raise PlanError(
            f"{another}: this one has no {listed(lacking)}.",
            nearest(lacking[0], [name for name in held if name not in planned]),
            again,
        )
    reshaped = [name for name, row in planned.items() if held[name].shape != row.shape]
    if reshaped:
        name = reshaped[0]
        raise PlanError(
            f"{another}: {listed(reshaped)} has another shape ({held[name].shape} here, "
            f"{planned[name].shape} in the plan).",
            fix=again,
        )
    extra = [name for name, one in held.items() if one.tensor.requires_grad and name not in planned]
    if extra:
        raise PlanError(
            f"{another}: it has no row for {listed(extra)}.",
            "Every trainable parameter must be in exactly one row; was it frozen when the plan was made?",
            again,
        )
    untied = [name for name, row in planned.items() if held[name].tensor is not held[row.name].tensor]
    if untied:
        raise PlanError(
            f"{another}: {listed(untied)} was tied to {listed([planned[untied[0]].name])} there, and is a tensor of "
            "its own here.",
            "It would be in no group, and never be trained.",
            again,
        )
    first: dict[int, str] = {}
    for row in rows:
        other = first.setdefault(id(held[row.name].tensor), row.name)
        if other != row.name:
            raise PlanError(
                f"{another}: {listed([other, row.name])} are one tied tensor here, and two rows there.",
                "It would be in two groups, and decay twice.",
                again,
            )
