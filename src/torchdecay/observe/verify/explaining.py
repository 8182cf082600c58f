"""Which plain pull does what a slot undergoes, when it is not the one that was expected."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from torchdecay.observe.verify.fitting import Candidate, Fit
from torchdecay.observe.verify.inputs import STRENGTH
from torchdecay.plans.decay import Site

_FRACTIONS = ((Site.BEFORE, False), (Site.AFTER, False), (Site.BEFORE, True))
_STARTS = (1.0, 2.0, -1.0, 0.1, 10.0)
_WHOLE = 0.02


class Fitter(Protocol):
    """Fits candidates to what was seen at the telling learning rates, or at half of them."""

    def __call__(
        self, candidates: Sequence[Candidate | None], start: Tensor, *, half: bool = False, rounds: int = 2
    ) -> Fit:
        """Fit from these multiples on."""


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

    def times(self, wanted: tuple[float, float]) -> tuple[float | None, Callable[[float], float]]:
        """How many times two wanted amounts, the same at both learning rates, and what a small amount comes to.

        Once more may mean to multiply by 1 − f again, or to divide by 1 + f. None when it is not the same number of
        times at both.
        """
        measured = (self.at_full, self.at_half)
        once: Callable[[float], float] = _same
        laws: list[tuple[Callable[[float], float], Callable[[float], float]]] = [(_same, _same)]
        if self.site is not Site.GRADIENT and max(measured) < 1:
            laws.append((lambda m: m / (1 - m), lambda f: f / (1 + f)))
            if min(wanted) > 0 and max(wanted) < 1:
                logs = [math.log1p(-m) / math.log1p(-f) for m, f in zip(measured, wanted, strict=True)]
                if abs(logs[0] - logs[1]) <= self.slack * abs(logs[0]) and abs(logs[0] - round(logs[0])) < _WHOLE:
                    return logs[0], once
        for undo, redo in laws:
            found = [undo(m) / f if f else math.inf for m, f in zip(measured, wanted, strict=True)]
            if math.isfinite(found[0]) and abs(found[0] - found[1]) <= 2 * self.slack * max(1.0, abs(found[0])):
                return found[0], redo
        return None, once


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
        asked: for each slot the site where its pull should be.
        shrink: for each slot what a step without gradient takes off, 0 or NaN when that says nothing.
        added: for each slot what a coupled pull may add, as part of the weight.
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
            one = _Try.read(candidates[i], found, i, site is asked[i])
            if i not in best or one.beats(best[i]):
                best[i] = one
        if number >= len(_FRACTIONS) and all(best[i].matches for i in indices):
            break
    starts = torch.ones(len(open_), dtype=torch.float64)
    for i in indices:
        starts[i] = best[i].multiple
    chosen = [best[i].candidate if look else None for i, look in enumerate(open_)]
    halved = fitter(chosen, starts, half=True, rounds=4)
    return {
        i: Explanation(
            one.candidate.site,
            one.multiple * one.candidate.amounts[0],
            float(halved.multiple[i]) * one.candidate.amounts[0],
            max(2e-3, one.slack),
        )
        for i, one in best.items()
        if one.matches and one.candidate is not None
    }


@dataclass(frozen=True)
class _Try:
    """How one candidate explains one slot."""

    candidate: Candidate | None
    multiple: float
    residual: float
    matches: bool
    slack: float
    is_asked: bool

    @classmethod
    def read(cls, candidate: Candidate | None, found: Fit, index: int, is_asked: bool) -> _Try:
        return cls(
            candidate,
            float(found.multiple[index]),
            float(found.residual[index]),
            bool(found.matches[index] and found.is_visible[index]),
            float(found.slack[index]),
            is_asked,
        )

    def beats(self, other: _Try) -> bool:
        """Whether this is the better explanation."""
        if self.matches != other.matches:
            return self.matches
        if self.matches and self.is_asked != other.is_asked:
            return self.is_asked
        return self.residual < 0.5 * other.residual


def _same(amount: float) -> float:
    return amount
