"""From a plan to parameter groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from torchdecay.errors import PlanError
from torchdecay.plans.census import parameters_by_name
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.rows import Row
from torchdecay.plans.rules import check_options
from torchdecay.plans.schedules import Constant
from torchdecay.plans.sharding import whole_shapes
from torchdecay.text import listed, nearest

MARK = "torchdecay"
"""The key that says, in a parameter group, who carries out its decay."""


def needs_attach(decay: Decay | None) -> bool:
    """Whether a constructor's `weight_decay` can't carry this decay out on its own."""
    return decay is not None and not (decay.site is Site.NATIVE and decay.schedule == Constant())


def groups_of(planned: Sequence[Row], model: nn.Module, options: dict[str, Any]) -> list[dict[str, Any]]:
    """`Plan.param_groups`, which documents it."""
    check_options(options, "param_groups()")
    if not isinstance(model, nn.Module):
        raise PlanError(
            f"param_groups() got a {type(model).__name__} where a model belongs.", fix="Give a torch.nn.Module."
        )
    tensors = parameters_by_name(model)
    _require_same_model(planned, tensors, whole_shapes(model))
    groups: list[tuple[_Settings, list[Row]]] = []
    for row in planned:
        settings = _settings(row, options)
        # Compared, not hashed: an option may be a tensor or a list.
        for known, rows in groups:
            if _equal(known, settings):
                rows.append(row)
                break
        else:
            groups.append((settings, [row]))
    return [
        {"params": [tensors[row.name] for row in rows], "param_names": [row.name for row in rows]}
        | dict(settings.options)
        | {"weight_decay": settings.weight_decay}
        | ({MARK: f"not attached: {settings.unattached!r}"} if settings.unattached is not None else {})
        for settings, rows in groups
    ]


@dataclass(frozen=True, eq=False)
class _Settings:
    """What one group says to the optimizer, and the decay that it leaves to `attach`."""

    options: dict[str, Any]
    weight_decay: float
    unattached: Decay | None


def _settings(row: Row, options: dict[str, Any]) -> _Settings:
    merged = options | dict(row.options)
    if needs_attach(row.decay):
        return _Settings(merged, 0.0, row.decay)
    return _Settings(merged, 0.0 if row.decay is None else row.decay.coefficient, None)


def _equal(left: _Settings, right: _Settings) -> bool:
    return (
        left.weight_decay == right.weight_decay
        and left.unattached == right.unattached
        and left.options.keys() == right.options.keys()
        and all(item is right.options[key] or _same(item, right.options[key]) for key, item in left.options.items())
    )


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        # Each group may fill its own tensor later, so that equal numbers don't make equal tensors.
        return False
    return bool(left == right)


def _require_same_model(
    rows: Sequence[Row], tensors: dict[str, nn.Parameter], whole: dict[int, tuple[int, ...]]
) -> None:
    again = "Make the plan from this model as it is now: td.plan(model, ...)."
    another = "the plan was made for another model"
    planned = {name: row for row in rows for name in row.names}
    lacking = [name for name in planned if name not in tensors]
    if lacking:
        raise PlanError(
            f"{another}: this one has no {listed(lacking)}.",
            nearest(lacking[0], [name for name in tensors if name not in planned]),
            again,
        )
    shapes = {name: whole.get(id(tensors[name])) or tuple(tensors[name].shape) for name in planned}
    reshaped = [name for name, row in planned.items() if shapes[name] != row.shape]
    if reshaped:
        name = reshaped[0]
        raise PlanError(
            f"{another}: {listed(reshaped)} has another shape ({shapes[name]} here, "
            f"{planned[name].shape} in the plan).",
            fix=again,
        )
    extra = [name for name, tensor in tensors.items() if tensor.requires_grad and name not in planned]
    if extra:
        raise PlanError(
            f"{another}: it has no row for {listed(extra)}.",
            "Every trainable parameter must be in exactly one row; was it frozen when the plan was made?",
            again,
        )
    untied = [name for name, row in planned.items() if tensors[name] is not tensors[row.name]]
    if untied:
        raise PlanError(
            f"{another}: {listed(untied)} was tied to {listed([planned[untied[0]].name])} there, and is a tensor of "
            "its own here.",
            "It would be in no group, and never be trained.",
            again,
        )
    first: dict[int, str] = {}
    for row in rows:
        other = first.setdefault(id(tensors[row.name]), row.name)
        if other != row.name:
            raise PlanError(
                f"{another}: {listed([other, row.name])} are one tied tensor here, and two rows there.",
                "It would be in two groups, and decay twice.",
                again,
            )
