"""What each optimizer class does in a step of its own: one card per class, and nothing is guessed.

To ask, take the card of an optimizer: `card = card_of(optimizer)`, None for a class that has none, or that replaces
the `step` of one that has. Then `card.native_in(group)` says what its weight_decay means there, `card.update` how its
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

from torchdecay.optimizers import formulas
from torchdecay.optimizers.formulas import settled
from torchdecay.optimizers.updates import Update
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


Trait = Literal[
    "adaptive",  # it divides each element's gradient by the size of earlier ones
    "elementwise",  # the update of an element reads nothing but that element's own gradient and state
    "blind",  # without decay of its own its update reads no weights, but their gradients and state alone
    "fused",  # it has a fused kernel
    "tensor decay",  # weight_decay may be a tensor that is filled anew at each step
    "averaging",  # its parameters are no weights, but mixtures of hidden weights and their average
    "reevaluating",  # it evaluates its closure many times a step, and keeps one vector over all parameters
    "sparse",  # it takes sparse gradients alone
    "no decay",  # it has no weight_decay of its own
    "in shares",  # each process steps some of the weights, and has their state alone
    "orthogonal",  # its update is the momentum, all singular values at about 1, times a number that the shape gives
]
"""What else is true of a class."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What one class does.

    Attributes:
        name: the class's name, as it is written.
        classes: pattern of module and name of the classes that do this, in letters of any case.
        native: what its own weight_decay does; None where it has none, or where that is not known.
        update: how its update follows from gradient and state, None where that is not known.
        traits: what else is true of it.
        state: the keys of its state that have the weight's shape.
        shrinks_by: the group key of a second decay, "" without one.
    """

    name: str
    classes: str
    native: Native | None = None
    update: Update | None = None
    traits: frozenset[Trait] = frozenset()
    state: tuple[str, ...] = ()
    shrinks_by: str = ""

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


def _of_torch(
    name: str,
    native: Native | None,
    *traits: Trait,
    update: Update | None = None,
    state: str = "",
    shrinks_by: str = "",
) -> Card:
    """The card of a class of torch.optim; its state's keys with blanks between them."""
    return Card(
        name=name,
        classes=f"torch.optim*:{name}",
        native=native,
        update=update,
        traits=frozenset(traits),
        state=tuple(state.split()),
        shrinks_by=shrinks_by,
    )


_COUPLED, _DECOUPLED, _EITHER = Native(Site.GRADIENT), Native(Site.BEFORE), Native(Site.GRADIENT, switch="chooses")
_KEPT_DECOUPLED = Native(Site.BEFORE, switch="obeyed")
_SIZED_FIRST = Native(
    Site.BEFORE, exact=False, note="Adafactor sizes its step by RMS(p) before the decay, a hook after it"
)
_PLAIN: tuple[Trait, ...] = ("elementwise", "blind", "fused")
_ADAPTIVE: tuple[Trait, ...] = ("elementwise", "blind", "adaptive")
_ADAM: tuple[Trait, ...] = (*_ADAPTIVE, "fused", "tensor decay")

CARDS = (
    _of_torch("SGD", _COUPLED, *_PLAIN, update=formulas.SGD, state="momentum_buffer"),
    _of_torch("Adam", _EITHER, *_ADAM, update=formulas.ADAM, state="exp_avg exp_avg_sq max_exp_avg_sq"),
    _of_torch("AdamW", _KEPT_DECOUPLED, *_ADAM, update=formulas.ADAM, state="exp_avg exp_avg_sq max_exp_avg_sq"),
    _of_torch("NAdam", _EITHER, *_ADAPTIVE, update=formulas.NADAM, state="exp_avg exp_avg_sq"),
    _of_torch("RAdam", _EITHER, *_ADAPTIVE, update=formulas.RADAM, state="exp_avg exp_avg_sq"),
    _of_torch("Adamax", _COUPLED, *_ADAPTIVE, update=formulas.ADAMAX, state="exp_avg exp_inf"),
    _of_torch("Adagrad", _COUPLED, *_ADAPTIVE, "fused", update=formulas.GRADIENT, state="sum"),
    _of_torch("Adadelta", _COUPLED, *_ADAPTIVE, state="square_avg acc_delta"),
    _of_torch("RMSprop", _COUPLED, *_ADAPTIVE, update=formulas.RMSPROP, state="square_avg momentum_buffer grad_avg"),
    _of_torch("ASGD", _COUPLED, "elementwise", update=formulas.ASGD, state="ax", shrinks_by="lambd"),
    _of_torch("Adafactor", _SIZED_FIRST),
    _of_torch("Muon", _DECOUPLED, "blind", "orthogonal", state="momentum_buffer"),
    _of_torch("Rprop", None, "elementwise", "blind", "no decay", state="prev step_size"),
    _of_torch("SparseAdam", None, "sparse", "blind", "no decay", state="exp_avg exp_avg_sq"),
    _of_torch("LBFGS", None, "reevaluating", "no decay"),
    # Of other libraries. What weight_decay means there turns on options of each: td.verify measures it.
    Card(name="Lion", classes="*:lion", update=formulas.LION, state=("exp_avg",)),
    Card(name="ForeachLion", classes="*:foreachlion", update=formulas.LION, state=("exp_avg",)),
    Card(
        name="ZeroRedundancyOptimizer",
        classes="torch.distributed.*:zeroredundancyoptimizer",
        traits=frozenset({"in shares"}),
    ),
    Card(name="ScheduleFree", classes="*:*schedulefree*", traits=frozenset({"averaging"})),
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
    if SWITCH in group and SWITCH not in getattr(optimizer, "defaults", group):
        # A class that has no such option, as AdamW of torch 2.6, does not read it.
        group = {key: value for key, value in group.items() if key != SWITCH}
    return None if card is None else card.native_in(group)


def update_of(optimizer: object, group: Mapping[str, Any]) -> Update | None:
    """How the update of this group follows from gradient and state, or None when that is not known."""
    card = card_of(optimizer)
    update = None if card is None else card.update
    return update if update is not None and update.fits(optimizer, group) else None


def settled_factor(optimizer: object, group: Mapping[str, Any]) -> float | None:
    """By how much momentum multiplies a gradient that stays; None unless the optimizer is torch's SGD."""
    card = card_of(optimizer)
    return None if card is None else card.settled(group)


def has_trait(optimizer: object, trait: Trait) -> bool:
    """Whether something is known to be true of the optimizer."""
    card = card_of(optimizer)
    return card is not None and trait in card.traits


def keeps_average(optimizer: object, group: Mapping[str, Any]) -> bool:
    """Whether the optimizer trains hidden weights, and moves the parameters between those and their average.

    Schedule-free optimizers do, in every library that has them: they know a training mode, and are called so.
    """
    card = base_card_of(optimizer)
    return "train_mode" in group or (card is not None and "averaging" in card.traits)


def late_because(optimizer: object) -> str:
    """Why a pull on the weights has to wait until a step is over, as the class says; "" where it need not.

    What SAM and its kin are given before a step is undone in it: they move the weights for a second gradient and put
    them back. AdaHessian and its kin differentiate the gradients again, at weights that nobody may have moved since.
    """
    if card_of(optimizer) is not None:
        return ""
    named = type(optimizer).__name__.lower()
    climbs = any(callable(getattr(optimizer, name, None)) for name in ("first_step", "ascent_step"))
    if named.endswith("sam") or climbs:
        return "puts weights back"
    again = named in ("adahessian", "sophiah") or getattr(optimizer, "is_second_order", False) is True
    return "differentiates gradients again" if again else ""


def torch_class(name: str) -> type[Optimizer] | None:
    """The class of torch.optim of this name, in any case, if it has a card; None where this torch has none."""
    from torch import optim

    return next((getattr(optim, one, None) for one in torch_names() if one.lower() == name.lower()), None)


def torch_names(*, decaying: bool = False) -> list[str]:
    """Names of the classes of torch that have a card, or of those that have a weight_decay."""
    torchs = [card for card in CARDS if card.classes.startswith("torch.optim")]
    return [card.name for card in torchs if not decaying or "no decay" not in card.traits]


def _nearest(cls: type) -> tuple[Card, type] | None:
    # AdamW derives from Adam, so the first card along the bases is the right one.
    if cls not in _FOUND:
        named = [(base, f"{base.__module__}:{base.__name__}".lower()) for base in cls.__mro__]
        pairs = ((card, base) for base, name in named for card in CARDS if fnmatchcase(name, card.classes.lower()))
        _FOUND[cls] = next(pairs, None)
    return _FOUND[cls]


def _step(cls: type) -> Any:
    return inspect.unwrap(getattr(cls, "step", cls))
