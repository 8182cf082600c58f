"""What scale-invariant weights settle at under decay: their rotation per step, and their effective learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torchdecay.observe.forecast.equilibrium import equilibrium
from torchdecay.observe.pulls import Expectation
from torchdecay.optimizers.cards import card_of
from torchdecay.plans.decay import Site


def predicted_rotation(optimizer: Any, group: Mapping[str, Any], expected: Expectation, lr: float, ahead: int) -> float:
    """The angle per step of a scale-invariant tensor at rest, in radians; NaN where no equation is known.

    Args:
        optimizer: whose.
        group: its live group.
        expected: what should pull.
        lr: the group's learning rate.
        ahead: steps that the group took since `expected` was made.
    """
    decay = expected.decay
    if decay is None or expected.wrong or expected.unsayable or expected.source == "group":
        return math.nan
    amount = expected.amount(lr, ahead)
    pull = lr * amount if decay.site in (Site.GRADIENT, Site.LOSS) else amount
    found = equilibrium(optimizer, group, decay, lr=lr, pull=pull)
    return math.nan if found is None else found.rotation


def effective_lr(optimizer: Any, lr: float, norm: float, num_elements: int) -> float:
    """η/‖θ‖² where updates scale with gradients (SGD), η√C/‖θ‖ where each element moves by about η (Adam's kin)."""
    if not norm > 0:
        return math.nan
    card = card_of(optimizer)
    is_linear = card is not None and card.update is not None and card.update.is_linear
    return lr / norm**2 if is_linear else lr * math.sqrt(num_elements) / norm
