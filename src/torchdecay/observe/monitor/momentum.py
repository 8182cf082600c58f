"""Momentum that carries a coupled decay from step to step: how it fades, and where it is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torchdecay.observe.pulls import Pulled
from torchdecay.optimizers.cards import native_of, update_of
from torchdecay.optimizers.updates import Update
from torchdecay.plans.decay import Site

Carrying = Literal["", "followed", "unknown"]
FORGOTTEN, PRESSED = 1e-3, 0.1
"""Momentum of which no more is left is not followed; and where there is little time."""


@dataclass(frozen=True, eq=False)
class Momentum:
    """How the momentum of one batch fades.

    Attributes:
        update: the rule.
        kept: what a step leaves of it.
        added: what a step adds of the gradient.
    """

    update: Update
    kept: float
    added: float

    @property
    def at_rest(self) -> float:
        """What a gradient that stays comes to in it."""
        return self.added / (1 - self.kept)

    def steps_until(self, left: float) -> int:
        """In how many steps no more than a part of it is left."""
        return math.ceil(math.log(left) / math.log(self.kept))

    def over(self, steps: int) -> tuple[float, float]:
        """What so many steps leave of it, and add of a gradient that stays."""
        left = self.kept**steps
        return left, self.at_rest * (1 - left)


def momentum_of(pulled: Pulled) -> Momentum | None:
    """The momentum that carries a coupled decay; None where none is known to."""
    group, decay = pulled.values, pulled.decay
    update = update_of(pulled.optimizer, group)
    is_coupled = decay is not None and decay.site is Site.GRADIENT and decay.is_plain_l2
    if not is_coupled or update is None or update.fading is None:
        return None
    kept, added = update.fading(group)
    return Momentum(update, kept, added) if 0 < kept < 1 else None


def carries(pulled: Pulled) -> Carrying:
    """Whether decay of earlier steps takes part in a step, and whether that is followed."""
    if pulled.decay is None or pulled.site is Site.BEFORE:
        return ""
    if momentum_of(pulled) is not None:
        return "followed"
    update, native = update_of(pulled.optimizer, pulled.values), native_of(pulled.optimizer, pulled.values)
    is_known = native is not None and not any(pulled.values.get(name) for name in ("momentum", "betas"))
    return "" if is_known or (update is not None and update.is_whole) else "unknown"
