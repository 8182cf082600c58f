"""What each torch optimizer does with its own `weight_decay`: a table, and nothing is guessed.

`tests/laws` derives every entry again by probing. An optimizer that is not here, or whose `step` a subclass has
replaced, has no entry; its decay is then carried out by hook.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import optim
from torch.optim import Optimizer

from torchdecay.plans.decay import Site

SWITCH = "decoupled_weight_decay"
"""The group key by which Adam, NAdam and RAdam choose between coupled and decoupled decay."""


@dataclass(frozen=True)
class Native:
    """What an optimizer does with `weight_decay`.

    Attributes:
        site: GRADIENT (coupled) or BEFORE (decoupled).
        switchable: whether the group key `decoupled_weight_decay` chooses the site, where the groups have it.
        exact: whether the same decay by hook gives the same bits.
        note: what is particular, in words.
    """

    site: Site
    switchable: bool = False
    exact: bool = True
    note: str = ""


_COUPLED, _DECOUPLED = Native(Site.GRADIENT), Native(Site.BEFORE)
_SWITCHED = Native(Site.GRADIENT, switchable=True)

TABLE: Mapping[type[Optimizer], Native] = {
    optim.SGD: _COUPLED,
    optim.Adagrad: _COUPLED,
    optim.Adadelta: _COUPLED,
    optim.Adamax: _COUPLED,
    optim.RMSprop: _COUPLED,
    optim.ASGD: _COUPLED,
    optim.Adam: _SWITCHED,
    optim.NAdam: _SWITCHED,
    optim.RAdam: _SWITCHED,
    optim.AdamW: _DECOUPLED,
    optim.Adafactor: Native(
        Site.BEFORE, exact=False, note="Adafactor sizes its step by RMS(p) before the decay, a hook after it"
    ),
} | ({optim.Muon: _DECOUPLED} if hasattr(optim, "Muon") else {})

_SWITCHED_BY_KEY = tuple(cls for cls, entry in TABLE.items() if entry.switchable)

WITHOUT = (optim.Rprop, optim.LBFGS, optim.SparseAdam)
"""torch optimizers that have no `weight_decay` at all."""


def native_of(optimizer: Optimizer, group: Mapping[str, Any]) -> Native | None:
    """What `weight_decay` means in this group of this optimizer, or None when that is not known."""
    cls = type(optimizer)
    base = next((one for one in cls.__mro__ if one in TABLE), None)
    # AdamW derives from Adam, so the first entry along the MRO is the right one.
    if base is None or _step(cls) is not _step(base):
        return None
    entry = TABLE[base]
    if SWITCH not in group:
        # Versions of torch whose Adam knows only coupled decay have no such key.
        return replace(entry, switchable=False)
    if issubclass(base, _SWITCHED_BY_KEY):
        # AdamW's groups have the key too, and obey it until a checkpoint is loaded.
        return replace(entry, site=Site.BEFORE if group[SWITCH] else Site.GRADIENT)
    return entry


def _step(cls: type[Optimizer]) -> Callable[..., Any]:
    # torch wraps step once per class that is instantiated, so the wrappers differ where the functions don't.
    return cast(Callable[..., Any], inspect.unwrap(cls.step))
