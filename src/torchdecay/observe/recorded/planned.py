"""The plan that an optimizer carries out by itself, read from its groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from torchdecay.apply.handle import handle_of
from torchdecay.encoding import described
from torchdecay.observe.groups import name_all
from torchdecay.observe.pulls import Pulled, own_pulls
from torchdecay.plans.census import census
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.parameters import Parameter
from torchdecay.plans.plan import Plan
from torchdecay.plans.rows import Row
from torchdecay.plans.tree import names_of
from torchdecay.text import dtype_name, printable


def plan_at_work(optimizer: Any, model: nn.Module | None = None) -> Plan:
    """The plan that is attached; else a plan that says what the groups' own weight_decay does to each parameter.

    Args:
        optimizer: the optimizer.
        model: for names and roles; what it has beside the optimizer's parameters is another optimizer's.

    Raises:
        PlanError: a model that can't be read.
    """
    if (handle := handle_of(optimizer)) is not None:
        return handle.plan
    names = name_all(optimizer, {} if model is None else names_of(model))
    held: dict[int, tuple[str, Tensor, Pulled]] = {}
    for group, own_names, pulls in zip(optimizer.param_groups, names, own_pulls(optimizer), strict=True):
        for param, name, pulled in zip(group["params"], own_names, pulls, strict=True):
            held.setdefault(id(param), (name, param, pulled))
    everyone = census(model) if model is not None else ()
    known = [one for one in everyone if id(one.tensor) in held]
    seen = {id(one.tensor) for one in known}
    strangers = {name: param for key, (name, param, _) in held.items() if key not in seen}
    known += _without_model(strangers, named=all("param_names" in group for group in optimizer.param_groups))
    return Plan(
        rows=tuple(_row(one, held[id(one.tensor)][2]) for one in known if one.trainable),
        policy="the script's own",
        frozen=tuple(name for one in everyone if not one.trainable for name in one.names),
    )


def differences(expected: Plan, found: Plan, *, alone: bool) -> tuple[str, ...]:
    """Where who decays, or how, is not what was expected, a line for each parameter.

    Args:
        expected: for the whole model.
        found: of one optimizer.
        alone: whether no other optimizer may have what this one lacks.
    """
    wanted = {row.name: row.decay for row in expected.rows}
    lines = [f"+ {row.name}: {row.decay!r}" for row in found.rows if row.name not in wanted]
    here = {row.name: row.decay for row in found.rows}
    lines += [f"- {name}: {decay!r}" for name, decay in wanted.items() if alone and name not in here]
    for name, decay in here.items():
        if name in wanted and not _same(wanted[name], decay):
            lines.append(f"~ {name}: {wanted[name]!r} -> {decay!r}")
    return tuple(map(printable, lines))


def _same(expected: Decay | None, found: Decay | None) -> bool:
    if expected is None or found is None or expected.site is not Site.NATIVE:
        return bool(described(expected) == described(found))
    # The optimizer's own decay, whatever that is in its class: here it is spelled out.
    return found.is_plain_l2 and found.coefficient == expected.coefficient


def _without_model(tensors: Mapping[str, Tensor], *, named: bool) -> list[Parameter]:
    """Parameters that no module is known to own: their names may tell what they are for, places in a group do not."""
    roles = {name: one.role for one in census(tensors) for name in one.names} if named and tensors else {}
    return [
        Parameter(
            names=(name,),
            shape=tuple(param.shape),
            dtype=dtype_name(param.dtype),
            role=roles.get(name, "unknown"),
            trainable=param.requires_grad,
            tensor=param,
        )
        for name, param in tensors.items()
    ]


def _row(one: Parameter, pulled: Pulled) -> Row:
    where = f"group {pulled.index}"
    said = (
        str(pulled.error.what) if pulled.error else f"{where}: {pulled.spoken}" if pulled.spoken else f"{where}: none"
    )
    return Row.of(one, decay=pulled.decay, reason=said)
