"""Which courses can be told before training, which only bounded, and which not at all."""

from __future__ import annotations

from typing import Literal

import torch

from torchdecay.observe.forecast.course import COUPLED
from torchdecay.observe.forecast.pulled import Pulled
from torchdecay.optimizers.cards import card_of, native_of, settled_factor
from torchdecay.plans.controllers import Cautious, Stable, TouchedRows
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.references import Average
from torchdecay.plans.regularizers import L2, Huber

Prediction = Literal["exact", "at most", "unknown"]


def predict(pulled: Pulled) -> tuple[Prediction, str]:
    """How much can be told of a weight without gradient under this pull, and why no more."""
    decay, optimizer = pulled.decay, pulled.optimizer
    card = card_of(optimizer)
    if card is not None and pulled.values.get(card.shrinks_by):
        why = f"{card.name} shrinks weights by its own {card.shrinks_by} as well, by an lr that it changes itself"
        return "unknown", why
    if decay is None:
        return "exact", ""
    unknown = _unsayable(decay, pulled) or _unsited(decay, pulled)
    if unknown:
        return "unknown", unknown
    if isinstance(decay.gate, Cautious):
        return "at most", "only where the pull agrees with the update"
    if isinstance(decay.gate, TouchedRows):
        return "at most", "only the rows that a step touches"
    if isinstance(decay.regularizer, Huber):
        return "at most", f"only weights of size {decay.regularizer.delta:g} and less"
    if low_dtypes(pulled) and not is_cured(pulled):
        return "at most", f"{' and '.join(low_dtypes(pulled))} rounds at each step"
    if decay.reference is not None:
        return "exact", "of the distance to the reference"
    if decay.mask is not None:
        return "exact", "for the entries that the mask lets take part"
    return "exact", ""


def low_dtypes(pulled: Pulled) -> list[str]:
    """Of the dtypes of the parameters, those that lose small displacements."""
    return [dtype for dtype in pulled.dtypes if dtype in ("bfloat16", "float16")]


def is_cured(pulled: Pulled) -> bool:
    """Whether what a low precision would round away is owed, and paid with stochastic rounding."""
    return pulled.hooked and pulled.decay is not None and pulled.decay.site in (Site.BEFORE, Site.AFTER)


def visible(dtype: str) -> float:
    """The smallest fraction that one step can take off some weight of this dtype without rounding back."""
    return float(torch.finfo(getattr(torch, dtype)).eps) / 4.0


def _unsayable(decay: Decay, pulled: Pulled) -> str:
    controller = decay.controller
    if isinstance(controller, Stable) and settled_factor(pulled.optimizer, pulled.values) is not None:
        controller = None
    if controller is not None:
        return "how hard it pulls is decided at each step"
    if isinstance(decay.reference, Average):
        return "its reference moves along"
    if not isinstance(decay.regularizer, (L2, Huber)):
        return "what it takes is no fixed part of a weight"
    return ""


def _unsited(decay: Decay, pulled: Pulled) -> str:
    """Why what enters here has no fixed effect on the weight."""
    optimizer = pulled.optimizer
    name = type(optimizer).__name__
    if decay.site is Site.NATIVE:
        if optimizer is None:
            return "what weight_decay means depends on the optimizer: give optimizer="
        return f"what weight_decay means in {name} is not known: td.verify measures it"
    if decay.site not in COUPLED:
        return ""
    if optimizer is None:
        return "what a coupled decay takes depends on the optimizer: give optimizer="
    if settled_factor(optimizer, pulled.values) is None:
        return (
            f"{name} divides it by the size of the gradients"
            if native_of(optimizer, pulled.values)
            else (f"what {name} makes of a gradient is not known")
        )
    if not isinstance(decay.regularizer, L2):
        return "what it takes is no fixed part of a weight"
    return ""
