"""Where an optimizer's own weight_decay enters, for a conversion."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import optim
from torch.optim import Optimizer

from torchdecay.arguments import check_number
from torchdecay.errors import DecayError, UnitError
from torchdecay.optimizers.own_decay import SWITCH, TABLE, WITHOUT, native_of
from torchdecay.plans.decay import Site
from torchdecay.text import nearest, printable

_CLASSES: Mapping[str, type[Optimizer]] = {cls.__name__.lower(): cls for cls in (*TABLE, *WITHOUT)}


@dataclass(frozen=True)
class Kind:
    """What a conversion asks of an optimizer.

    Attributes:
        name: its class.
        site: where its own weight_decay enters: GRADIENT (coupled), BEFORE (decoupled), or None when it has none.
        plain: whether its update is −lr·gradient and nothing else, so that coupled and decoupled decay agree.
        momentum: of SGD.
        lr: of its groups, where they agree; None when that is not known.
    """

    name: str
    site: Site | None
    plain: bool
    momentum: float = 0.0
    lr: float | None = None


def kind_of(optimizer: Any, momentum: float | None = None) -> Kind:
    """The kind of an optimizer, of a torch class, or of what a name means.

    Args:
        optimizer: a torch optimizer, its class, or a name such as "sgd" or "AdamW".
        momentum: of SGD, where `optimizer` does not tell.

    Raises:
        UnitError: a name or a class whose weight_decay is not known.
    """
    if isinstance(optimizer, str):
        cls = _CLASSES.get(optimizer.lower())
        if cls is None:
            raise UnitError(
                f'there is no optimizer "{printable(optimizer)}" in torch.optim.',
                fix=nearest(optimizer.lower(), _CLASSES) or f"Known: {', '.join(_CLASSES)}.",
            )
        return _of_class(cls, momentum)
    if inspect.isclass(optimizer) and issubclass(optimizer, Optimizer):
        return _of_class(optimizer, momentum)
    if isinstance(optimizer, Optimizer):
        return _of_groups(optimizer, momentum)
    raise UnitError(
        f"optimizer is {optimizer!r}, of type {type(optimizer).__name__}.",
        fix='Give a torch optimizer or a name, optimizer="sgd".',
    )


def _of_class(cls: type[Optimizer], momentum: float | None) -> Kind:
    if cls in TABLE or cls in WITHOUT:
        site = TABLE[cls].site if cls in TABLE else None
        return Kind(cls.__name__, site, cls is optim.SGD and not momentum, momentum or 0.0)
    raise _unknown(cls)


def _of_groups(optimizer: Optimizer, momentum: float | None) -> Kind:
    groups = optimizer.param_groups
    name = type(optimizer).__name__
    if type(optimizer) in WITHOUT:
        return Kind(name, None, False)
    sites = {known.site if (known := native_of(optimizer, group)) else None for group in groups}
    if sites == {None}:
        raise _unknown(type(optimizer))
    if len(sites) > 1:
        raise UnitError(
            f"the groups of this {name} couple their weight_decay in some and not in others.",
            fix=f"Convert group by group: say optimizer= by name, or make {SWITCH} equal.",
        )
    momenta = {float(group.get("momentum", 0.0)) for group in groups}
    if momentum is not None and momenta != {momentum}:
        raise UnitError(f"momentum={momentum:g} contradicts the optimizer, where it is {sorted(momenta)}.")
    rates = {_rate(group.get("lr")) for group in groups}
    site = sites.pop()
    plain = type(optimizer) is optim.SGD and momenta == {0.0}
    return Kind(name, site, plain, max(momenta), rates.pop() if len(rates) == 1 else None)


def _rate(lr: Any) -> float | None:
    if lr is None:
        return None
    try:
        return check_number(float(lr), "the optimizer's lr", open_minimum=True)
    except DecayError as error:
        raise UnitError(error.what, fix=error.fix) from error


def _unknown(cls: type) -> UnitError:
    return UnitError(
        f"what weight_decay means in {cls.__name__} is not known.",
        "It is no optimizer of torch, or steps in a way of its own.",
        "Measure it with td.verify(optimizer), and name the unit: coupled or decoupled.",
    )
