"""Where an optimizer's own weight_decay enters, for a conversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torchdecay.arguments import check_number
from torchdecay.errors import UnitError
from torchdecay.optimizers.cards import SWITCH, Card, card_of, settled_factor, torch_class, torch_names
from torchdecay.optimizers.wrappers import is_optimizer, unwrap
from torchdecay.plans.decay import Site
from torchdecay.text import nearest, printable


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
        cls = torch_class(optimizer)
        if cls is None:
            names = [name.lower() for name in torch_names()]
            raise UnitError(
                f'there is no optimizer "{printable(optimizer)}" in torch.optim.',
                fix=nearest(optimizer.lower(), names) or f"Known: {', '.join(names)}.",
            )
        return kind_of(cls, momentum)
    if isinstance(optimizer, type):
        card = _known(card_of(optimizer), optimizer)
        site = None if card.native is None else card.native.site
        return Kind(optimizer.__name__, site, card.settled({}) is not None and not momentum, momentum or 0.0)
    if is_optimizer(optimizer):
        inside = unwrap(optimizer)
        return _of_groups(inside, inside.param_groups, momentum)
    raise UnitError(
        f"optimizer is {optimizer!r}, of type {type(optimizer).__name__}.",
        fix='Give a torch optimizer or a name, optimizer="sgd".',
    )


def _of_groups(optimizer: Any, groups: Sequence[dict[str, Any]], momentum: float | None) -> Kind:
    cls = type(optimizer)
    card = _known(card_of(optimizer), cls)
    if "no decay" in card.traits:
        return Kind(cls.__name__, None, False)
    sites = {native.site for group in groups if (native := card.native_in(group)) is not None}
    if len(sites) > 1:
        raise UnitError(
            f"the groups of this {cls.__name__} couple their weight_decay in some and not in others.",
            fix=f"Convert group by group: say optimizer= by name, or make {SWITCH} equal.",
        )
    momenta = {float(group.get("momentum", 0.0)) for group in groups}
    if momentum is not None and momenta != {momentum}:
        raise UnitError(f"momentum={momentum:g} contradicts the optimizer, where it is {sorted(momenta)}.")
    lrs = {lr if lr is None else float(lr) for lr in (group.get("lr") for group in groups)}
    for lr in lrs - {None}:
        check_number(lr, "the optimizer's lr", minimum=1e-30, maximum=1e30, error=UnitError)
    plain = momenta == {0.0} and all(settled_factor(optimizer, group) is not None for group in groups)
    return Kind(cls.__name__, sites.pop(), plain, max(momenta), lrs.pop() if len(lrs) == 1 else None)


def _known(card: Card | None, cls: type) -> Card:
    if card is not None and (card.native is not None or "no decay" in card.traits):
        return card
    raise UnitError(
        f"what weight_decay means in {cls.__name__} is not known.",
        "It is no optimizer of torch, or steps in a way of its own.",
        "Measure it with td.verify(optimizer), and name the unit: coupled or decoupled.",
    )
