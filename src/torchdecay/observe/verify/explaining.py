"""Which plain pull does what a slot undergoes, when it is not the one that was expected."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from torchdecay.observe.verify.fitting import Candidate, Fit
from torchdecay.observe.verify.inputs import STRENGTH
from torchdecay.plans.decay import Site

_FRACTIONS = ((Site.BEFORE, False), (Site.AFTER, False), (Site.BEFORE, True))
_STARTS = (1.0, 2.0, -1.0, 0.1, 10.0)
_WHOLE = 0.02


Law = Callable[[float], float]
Fitter = Callable[..., Fit]
"""(candidates, multiples to start from, half=, rounds=) → how well they explain what was seen at the telling learning
rates, or at half of them."""


@dataclass(frozen=True)
class Explanation:
    """A plain pull that does what a slot undergoes.

    Attributes:
        site: where it enters the step.
        at_full: its amount at the telling learning rate.
        at_half: its amount at half of that.
        slack: relative error of the amounts.
    """

    site: Site
    at_full: float
    at_half: float
    slack: float

    @property
    def power(self) -> int:
        """The power of the learning rate in the amount."""
        if self.at_half == 0 or self.at_full / self.at_half <= 0:
            return 0
        return round(math.log2(self.at_full / self.at_half))

    def times(self, wanted: tuple[float, float]) -> tuple[float | None, Law]:
        """How many times two wanted amounts, the same at both learning rates, and what a small amount comes to.

        Once more may mean to multiply by 1 − f again, or to divide by 1 + f. None when it is not the same number of
        times at both.
        """
        measured = (self.at_full, self.at_half)
        laws: list[tuple[Law, Law]] = [(float, float)]
        if self.site is not Site.GRADIENT and max(measured) < 1:
            laws.append((lambda m: m / (1 - m), lambda f: f / (1 + f)))
            if min(wanted) > 0 and max(wanted) < 1:
                logs = [math.log1p(-m) / math.log1p(-f) for m, f in zip(measured, wanted, strict=True)]
                if abs(logs[0] - logs[1]) <= self.slack * abs(logs[0]) and abs(logs[0] - round(logs[0])) < _WHOLE:
                    return logs[0], float
        for undo, redo in laws:
            found = [undo(m) / f if f else math.inf for m, f in zip(measured, wanted, strict=True)]
            if math.isfinite(found[0]) and abs(found[0] - found[1]) <= 2 * self.slack * max(1.0, abs(found[0])):
                return found[0], redo
        return None, float


def explain(
    fitter: Fitter,
    open_: Sequence[bool],
    asked: Sequence[Site | None],
    shrink: Sequence[float],
    added: Sequence[float],
    steps: int,
) -> dict[int, Explanation]:
    """For each open slot the plain pull that comes nearest; where several do, at the site that was asked for.

    Args:
        fitter: fits candidates, one for each slot.
        open_: for each slot, whether to look.
        asked: the site where its pull should be.
        shrink: what a step without gradient takes off, 0 or NaN when that says nothing.
        added: what a coupled pull may add, as part of the weight.
        steps: how many were seen.
    """
    fractions = [one if math.isfinite(one) and one else STRENGTH / 2 for one in shrink]
    tries = [(site, beside, fractions, 1.0) for site, beside in _FRACTIONS]
    tries += [(Site.GRADIENT, False, list(added), start) for start in _STARTS]
    indices = [i for i, look in enumerate(open_) if look]
    best: dict[int, _Try] = {}
    for number, (site, beside, amounts, start) in enumerate(tries):
        candidates = [
            Candidate(site, (amount,) * steps, beside) if look else None
            for amount, look in zip(amounts, open_, strict=True)
        ]
        found = fitter(candidates, torch.full((len(candidates),), start, dtype=torch.float64), rounds=4)
        for i in indices:
            matches, residual = bool(found.matches[i] and found.is_visible[i]), float(found.residual[i])
            rank, old = (matches, matches and site is asked[i]), best.get(i)
            if old is None or rank > old.rank or (rank == old.rank and residual < 0.5 * old.residual):
                amount, slack = float(found.multiple[i]) * amounts[i], max(2e-3, float(found.slack[i]))
                best[i] = _Try(rank, residual, Candidate(site, (amount,) * steps, beside), slack)
        if number >= len(_FRACTIONS) and all(any(best[i].rank) for i in indices):
            break
    chosen = [best[i].candidate if look else None for i, look in enumerate(open_)]
    halved = fitter(chosen, torch.ones(len(open_), dtype=torch.float64), half=True, rounds=4)
    return {
        i: Explanation(pull.site, pull.amounts[0], float(halved.multiple[i]) * pull.amounts[0], slack)
        for i, (rank, _, pull, slack) in best.items()
        if any(rank)
    }


class _Try(NamedTuple):
    """How well one candidate explains one slot: whether, whether at the site asked for, and what it leaves."""

    rank: tuple[bool, bool]
    residual: float
    candidate: Candidate
    slack: float
