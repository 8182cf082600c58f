"""What each optimizer class does in a step of its own: one card per class, and nothing is guessed.

To ask, take the card of an optimizer: `card = card_of(optimizer)`, None for a class that has none, or that replaces
the `step` of one that has. Then `card.own_in(group)` says what its weight_decay means there, `card.update` how its
update follows from gradient and state, `card.settled(group)` what a coupled decay comes to. A new optimizer is a new
card, and `tests/optimizers` derives each card again from real steps.

Cards name classes by text, so that reading them loads no torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from torchdecay.optimizers import updates
from torchdecay.optimizers.updates import Update, settled
from torchdecay.plans.decay import Decay, Scale, Site

if TYPE_CHECKING:
    from torch.optim import Optimizer

SWITCH = "decoupled_weight_decay"
"""The group key by which Adam, NAdam and RAdam choose between coupled and decoupled decay."""


@dataclass(frozen=True)
class Native:
    """What an optimizer does with `weight_decay`.

    Attributes:
        site: GRADIENT (coupled) or BEFORE (decoupled).
        switch: what the group key `decoupled_weight_decay` does, where groups have it: "chooses" the site; is only
            "obeyed", because each load of a checkpoint sets it back; "" nothing.
        exact: whether the same decay by hook gives the same bits.
        note: what is particular, in words.
    """

    site: Site
    switch: Literal["", "obeyed", "chooses"] = ""
    exact: bool = True
    note: str = ""

    def decay(self, weight_decay: float) -> Decay:
        """A number under `weight_decay` as the Decay that it is."""
        return self.resolve(Decay(coefficient=weight_decay, site=Site.NATIVE))

    def resolve(self, decay: Decay) -> Decay:
        """A Decay at the site NATIVE as what that means here; others as they are."""
        if decay.site is not Site.NATIVE:
            return decay
        return decay.replace(site=self.site, scale=Scale.LR if self.site is Site.BEFORE else Scale.ONE)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What one class does.

    Attributes:
        classes: patterns of module and name of the classes that do this, as "torch.optim*:SGD"; letters of any case.
        native: what its own weight_decay does; None where it has none, or where that is not known.
        decays: whether it has a weight_decay of its own.
        update: how its update follows from gradient and state, None where that is not known.
        is_adaptive: whether it divides each element's gradient by the size of earlier ones.
        is_elementwise: whether the update of an element reads nothing but that element's own gradient and state.
        has_fused: whether it has a fused kernel.
        has_tensor_decay: whether weight_decay may be a tensor that is filled anew at each step.
        keeps_average: whether its parameters are no weights, but mixtures of hidden weights and their average.
        reevaluates: whether it evaluates its closure many times a step, and keeps one vector over all parameters.
        is_sparse: whether it takes sparse gradients alone.
        shrinks_by: the group key of a second decay, "" without one.
        state: the keys of its state that have the weight's shape.
    """

    classes: tuple[str, ...]
    native: Native | None = None
    decays: bool = True
    update: Update | None = None
    is_adaptive: bool = False
    is_elementwise: bool = False
    has_fused: bool = False
    has_tensor_decay: bool = False
    keeps_average: bool = False
    reevaluates: bool = False
    is_sparse: bool = False
    shrinks_by: str = ""
    state: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The class's name, as it is written."""
        return self.classes[0].rpartition(":")[2]

    def native_in(self, group: Mapping[str, Any]) -> Native | None:
        """What weight_decay means in this group."""
        if self.native is None or not self.native.switch:
            return self.native
        if SWITCH not in group:
            # Versions of torch whose Adam knows only coupled decay have no such key.
            return replace(self.native, switch="")
        return replace(self.native, site=Site.BEFORE if group[SWITCH] else Site.GRADIENT)

    def settled(self, group: Mapping[str, Any]) -> float | None:
        """By how much momentum multiplies a gradient that stays; None where no fixed factor does."""
        return settled(group) if self.update is not None and self.update.is_linear else None


_COUPLED, _DECOUPLED = Native(Site.GRADIENT), Native(Site.BEFORE)
_BY_SWITCH = Native(Site.GRADIENT, switch="chooses")
_ADAM_STATE = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")

CARDS = (
    Card(
        classes=("torch.optim*:SGD",),
        native=_COUPLED,
        update=updates.SGD,
        is_elementwise=True,
        has_fused=True,
        state=("momentum_buffer",),
    ),
    Card(
        classes=("torch.optim*:Adam",),
        native=_BY_SWITCH,
        update=updates.ADAM,
        is_adaptive=True,
        is_elementwise=True,
        has_fused=True,
        has_tensor_decay=True,
        state=_ADAM_STATE,
    ),
    Card(
        classes=("torch.optim*:AdamW",),
        native=Native(Site.BEFORE, switch="obeyed"),
        update=updates.ADAM,
        is_adaptive=True,
        is_elementwise=True,
        has_fused=True,
        has_tensor_decay=True,
        state=_ADAM_STATE,
    ),
    Card(
        classes=("torch.optim*:NAdam",),
        native=_BY_SWITCH,
        update=updates.NADAM,
        is_adaptive=True,
        is_elementwise=True,
        state=_ADAM_STATE[:2],
    ),
    Card(
        classes=("torch.optim*:RAdam",),
        native=_BY_SWITCH,
        update=updates.RADAM,
        is_adaptive=True,
        is_elementwise=True,
        state=_ADAM_STATE[:2],
    ),
    Card(
        classes=("torch.optim*:Adamax",),
        native=_COUPLED,
        update=updates.FIRST_MOMENT,
        is_adaptive=True,
        is_elementwise=True,
        state=("exp_avg", "exp_inf"),
    ),
    Card(
        classes=("torch.optim*:Adagrad",),
        native=_COUPLED,
        update=updates.GRADIENT,
        is_adaptive=True,
        is_elementwise=True,
        has_fused=True,
        state=("sum",),
    ),
    Card(
        classes=("torch.optim*:Adadelta",),
        native=_COUPLED,
        is_adaptive=True,
        is_elementwise=True,
        state=("square_avg", "acc_delta"),
    ),
    Card(
        classes=("torch.optim*:RMSprop",),
        native=_COUPLED,
        update=updates.RMSPROP,
        is_adaptive=True,
        is_elementwise=True,
        state=("square_avg", "momentum_buffer", "grad_avg"),
    ),
    Card(
        classes=("torch.optim*:ASGD",),
        native=_COUPLED,
        update=updates.ASGD,
        is_elementwise=True,
        shrinks_by="lambd",
        state=("ax",),
    ),
    Card(
        classes=("torch.optim*:Adafactor",),
        native=Native(
            Site.BEFORE, exact=False, note="Adafactor sizes its step by RMS(p) before the decay, a hook after it"
        ),
    ),
    Card(classes=("torch.optim*:Muon",), native=_DECOUPLED, state=("momentum_buffer",)),
    Card(classes=("torch.optim*:Rprop",), decays=False, is_elementwise=True, state=("prev", "step_size")),
    Card(classes=("torch.optim*:SparseAdam",), decays=False, is_sparse=True, state=_ADAM_STATE[:2]),
    Card(classes=("torch.optim*:LBFGS",), decays=False, reevaluates=True),
    # Of other libraries, where the meaning of weight_decay turns on options of each: td.verify measures it.
    Card(classes=("*:Lion", "*:ForeachLion"), update=updates.LION, state=("exp_avg",)),
    Card(classes=("*:*ScheduleFree*",), keeps_average=True),
)

_FOUND: WeakKeyDictionary[type, tuple[Card, type] | None] = WeakKeyDictionary()


def card_of(optimizer: object) -> Card | None:
    """The card of an optimizer, or of a class: its own, or that of the class whose `step` it keeps; else None."""
    cls = optimizer if isinstance(optimizer, type) else type(optimizer)
    found = _nearest(cls)
    if found is None:
        return None
    card, base = found
    # torch wraps step once per class that is instantiated, so the wrappers differ where the functions don't.
    return card if cls is base or _step(cls) is _step(base) else None


def base_card_of(optimizer: object) -> Card | None:
    """The card of the first class with one that an optimizer derives from, also where it has a step of its own."""
    found = _nearest(type(optimizer))
    return None if found is None else found[0]


def native_of(optimizer: object, group: Mapping[str, Any]) -> Native | None:
    """What `weight_decay` means in this group of this optimizer, or None when that is not known."""
    card = card_of(optimizer)
    return None if card is None else card.native_in(group)


def update_of(optimizer: object, group: Mapping[str, Any]) -> Update | None:
    """How the update of this group follows from gradient and state, or None when that is not known."""
    card = card_of(optimizer)
    if card is None or card.update is None or not card.update.fits(optimizer, group):
        return None
    return card.update


def settled_factor(optimizer: object, group: Mapping[str, Any]) -> float | None:
    """By how much momentum multiplies a gradient that stays; None unless the optimizer is torch's SGD."""
    card = card_of(optimizer)
    return None if card is None else card.settled(group)


def has_no_decay(optimizer: object) -> bool:
    """Whether the class is known to have no weight_decay of its own."""
    card = card_of(optimizer)
    return card is not None and not card.decays


def keeps_average(optimizer: object, group: Mapping[str, Any]) -> bool:
    """Whether the optimizer trains hidden weights, and moves the parameters between those and their average.

    Schedule-free optimizers do, in every library that has them: they know a training mode, and are called so.
    """
    card = base_card_of(optimizer)
    return "train_mode" in group or (card is not None and card.keeps_average)


def torch_class(name: str) -> type[Optimizer] | None:
    """The class of torch.optim of this name, in any case, if it has a card; None where this torch has none."""
    from torch import optim

    return next((getattr(optim, one, None) for one in torch_names() if one.lower() == name.lower()), None)


def torch_names(*, decays: bool = False) -> list[str]:
    """Names of the classes of torch that have a card, or of those that have a weight_decay."""
    torchs = [card for card in CARDS if card.classes[0].startswith("torch.optim")]
    return [card.name for card in torchs if card.decays or not decays]


def _nearest(cls: type) -> tuple[Card, type] | None:
    # AdamW derives from Adam, so the first card along the bases is the right one.
    if cls not in _FOUND:
        pairs = ((card, base) for base in cls.__mro__ for card in CARDS if _is_of(card, base))
        _FOUND[cls] = next(pairs, None)
    return _FOUND[cls]


def _is_of(card: Card, cls: type) -> bool:
    called = f"{cls.__module__}:{cls.__name__}".lower()
    return any(fnmatchcase(called, pattern.lower()) for pattern in card.classes)


def _step(cls: type) -> Any:
    return inspect.unwrap(getattr(cls, "step", cls))
