"""From a plan to parameter groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
_DECIDED = ("params", "param_names", "weight_decay", MARK)
_NAMES = ("name", "group_name")


def needs_attach(decay: Decay | None) -> bool:
    """Whether a constructor's `weight_decay` can't carry this decay out on its own."""
    return decay is not None and not (decay.site is Site.NATIVE and decay.schedule == Constant())


Held = Occurrence | Parameter
"""A parameter of a model, as a walk or a census finds it."""


def groups_of(
    planned: Sequence[Row],
    held: Mapping[str, Held],
    options: dict[str, Any],
    *,
    names: bool = True,
    keep: Iterable[Any] | None = None,
) -> list[dict[str, Any]]:
    """`Plan.param_groups`, which documents it, with the model's parameters by name."""
    check_options(options, "param_groups()")
    for what, why in _differences(planned, held):
        again = "Make the plan from this model as it is now: td.plan(model, ...)."
        raise PlanError(f"the plan was made for another model: {what}.", why, again)
    made = [(planned, options)] if keep is None else _kept(planned, held, keep, options)
    groups = [group for rows, own in made for group in _told_apart(rows, held, own)]
    return groups if names else [{key: group[key] for key in group if key != "param_names"} for group in groups]


def _told_apart(planned: Sequence[Row], held: Mapping[str, Held], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Groups of rows with equal decay and options."""
    groups: list[tuple[dict[str, Any], Decay | None, list[Row]]] = []
    met: dict[tuple[int, int], list[Row]] = {}
    for row in planned:
        # Most rows share one decay and the same options, and need not be compared.
        key = (id(row.decay), id(row.options))
        if key not in met:
            unattached = row.decay if needs_attach(row.decay) else None
            native = 0.0 if row.decay is None or unattached else row.decay.coefficient
            settings = {**options, **dict(row.options), "weight_decay": native}
            settings |= {MARK: f"not attached: {unattached!r}"} if unattached else {}
            known = (rows for other, decay, rows in groups if decay == unattached and _equal(other, settings))
            met[key] = next(known, [])
            if not met[key]:
                groups.append((settings, unattached, met[key]))
        met[key].append(row)
    made = [
        {"params": [held[row.name].tensor for row in rows], "param_names": [row.name for row in rows]} | settings
        for settings, _, rows in groups
    ]
    for number, group in enumerate(made[1:], 2):
        # What reads groups by name, as monitors of learning rates do, needs each name once.
        group |= {key: f"{options[key]}_{number}" for key in _NAMES if isinstance(options.get(key), str)}
    return made


def _kept(
    planned: Sequence[Row], held: Mapping[str, Held], keep: Iterable[Any], options: Mapping[str, Any]
) -> Iterator[tuple[list[Row], dict[str, Any]]]:
    """The rows of each group that is there already, in its order, with its options."""
    rows = {id(held[row.name].tensor): row for row in planned}
    names = {id(held[name].tensor): name for name in reversed(list(held))}
    seen: set[int] = set()
    for index, group in enumerate(keep):
        own = group if isinstance(group, Mapping) else {"params": group}
        found = []
        for param in _params(own.get("params"), index):
            name = names.get(id(param))
            if name is None:
                raise PlanError(
                    f"keep: group {index} has a parameter of shape {tuple(param.shape)} that is not in the model.",
                    fix="Give the groups of this model, as they are before an optimizer or a framework replaces them.",
                )
            if id(param) in seen:
                raise PlanError(
                    f"keep: group {index} has {listed([name])}, which is there twice.", "It would decay twice."
                )
            seen.add(id(param))
            # What is frozen has no row, and is trained by nobody until the plan is made anew.
            found.append(
                rows.get(id(param)) or Row(names=(name,), shape=tuple(param.shape), role="unknown", reason="frozen")
            )
        yield found, {**options, **{key: value for key, value in own.items() if key not in _DECIDED}}
    if lacking := [row.name for key, row in rows.items() if key not in seen]:
        raise PlanError(
            f"keep: no group has {listed(lacking)}.",
            "Trainable parameters in no group are never trained.",
            "Give all groups of the model, or freeze what is not to be trained before td.plan(model, ...).",
        )


def _params(given: Any, index: int) -> list[Tensor]:
    """The tensors of a group, which torch takes with and without names."""
    several: list[Any] = [given] if isinstance(given, Tensor) or not isinstance(given, Iterable) else list(given)
    tensors: list[Any] = [one[1] if isinstance(one, tuple) and len(one) == 2 else one for one in several]
    if not all(isinstance(one, Tensor) for one in tensors):
        raise PlanError(
            f"keep: group {index} has no list of parameters.",
            fix='Give what an optimizer takes: [{"params": [...], "lr": ...}, ...], or lists of parameters.',
        )
    return tensors


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
