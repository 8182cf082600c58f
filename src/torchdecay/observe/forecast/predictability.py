"""Which courses can be told before training, which only bounded, and which not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from torchdecay.observe.forecast.course import Course, is_under_way
from torchdecay.observe.pulls import Pulled
from torchdecay.optimizers.cards import card_of
from torchdecay.plans.controllers import Cautious, TouchedRows
from torchdecay.plans.regularizers import Huber

Prediction = Literal["exact", "at most", "unknown"]


def predict(pulled: Pulled) -> tuple[Prediction, str]:
    """How much can be told of weights without gradient under a pull, rounding left aside, and why no more."""
    decay, card = pulled.decay, card_of(pulled.optimizer)
    if card is not None and pulled.values.get(card.shrinks_by):
        why = f"{card.name} shrinks weights by its own {card.shrinks_by} as well, by an lr that it changes itself"
        return "unknown", why
    if decay is None:
        return "exact", ""
    if pulled.why:
        return "unknown", pulled.why
    if isinstance(decay.gate, Cautious):
        return "at most", "only where the pull agrees with the update"
    if isinstance(decay.gate, TouchedRows):
        return "at most", "only the rows that a step touches"
    if isinstance(decay.regularizer, Huber):
        return "at most", f"only weights of size {decay.regularizer.delta:g} and less"
    if is_under_way(pulled):
        return "at most", "how much of earlier steps momentum still holds is not known"
    if decay.reference is not None:
        return "exact", "of the distance to the reference"
    if decay.mask is not None:
        return "exact", "for the entries that the mask lets take part"
    return "exact", "as td.verify measured it" if pulled.source == "measured" else ""


def rounded(pulled: Pulled, dtypes: Sequence[str], course: Course) -> tuple[Prediction, str] | None:
    """What a low precision leaves of a prediction: it rounds up as well as down, once it shows a step at all."""
    low = [] if is_paid(pulled) else low_dtypes(dtypes)
    if pulled.decay is None or not low:
        return None
    visible_at_all = any(course.largest >= visible(dtype) for dtype in low)
    return "unknown" if visible_at_all else "at most", f"{' and '.join(low)} rounds at each step"


def low_dtypes(dtypes: Sequence[str]) -> list[str]:
    """Those that lose small displacements."""
    return [dtype for dtype in dtypes if dtype in ("bfloat16", "float16")]


def is_paid(pulled: Pulled) -> bool:
    """Whether what a low precision would round away is owed, and paid with stochastic rounding."""
    return pulled.hooked


def visible(dtype: str) -> float:
    """The smallest fraction that one step can take off some weight of this dtype without rounding back."""
    return float(torch.finfo(getattr(torch, dtype)).eps) / 4.0
