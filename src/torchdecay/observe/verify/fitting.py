"""Which pull explains what an optimizer did: carry candidates out by hand, hold them against it, and find how much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchdecay.observe.verify.expected import Expectation
from torchdecay.observe.verify.slots import Slot
from torchdecay.optimizers.elementwise import Elementwise
from torchdecay.optimizers.gradients import maximizes
from torchdecay.optimizers.steps import step_size
from torchdecay.plans.controllers import Cautious
from torchdecay.plans.decay import Site
from torchdecay.plans.regularizers import PNorm
from torchdecay.sharding import local

_NUDGE = 0.25
_MATCH = 1e-3
_LOW_PRECISION_NOISE = 2.0**-8


@dataclass(frozen=True)
class Candidate:
    """A pull that may be what a slot undergoes.

    Attributes:
        site: where it enters the step.
        amounts: c_t·λ_t at each step.
        beside: BEFORE, but with the update computed from the weight as it was.
        form: an expectation whose decay is not plain L2, to take its regularizer, reference, mask and gate from.
    """

    site: Site
    amounts: tuple[float, ...]
    beside: bool = False
    form: Expectation | None = None


@dataclass(frozen=True)
class Fit:
    """How well candidates explain a trajectory; every field has one entry for each slot.

    Attributes:
        multiple: what the candidate's amounts must be multiplied by.
        residual: distance that is left.
        rounding: distance that rounding alone explains.
        reach: distance that the candidate makes as a whole.
    """

    multiple: Tensor
    residual: Tensor
    rounding: Tensor
    reach: Tensor

    @property
    def tolerance(self) -> Tensor:
        """Distance that rounding explains, and that an optimizer's own computation may be off."""
        return self.rounding + _MATCH * self.reach

    @property
    def matches(self) -> Tensor:
        """Whether rounding explains what is left."""
        return self.residual <= self.tolerance

    @property
    def is_visible(self) -> Tensor:
        """Whether a wrong amount would show beyond rounding."""
        return self.reach > 4 * self.tolerance

    @property
    def slack(self) -> Tensor:
        """How far the multiple may be off, by rounding alone."""
        return 2 * self.tolerance / self.reach.clamp(min=torch.finfo(torch.float64).tiny)


class Segments:
    """Sums over slots, and values spread over them."""

    def __init__(self, slots: Sequence[Slot], size: int) -> None:
        self.slots = list(slots)
        self._segment = torch.full((size,), len(self.slots), dtype=torch.long)
        for index, slot in enumerate(self.slots):
            self._segment[slot.span] = index
        self.noise = torch.tensor([_noise(slot.param) for slot in self.slots], dtype=torch.float64)

    def spread(self, values: Tensor) -> Tensor:
        """(slots,) → (size,); 0 between the slots."""
        return torch.cat([values, values.new_zeros(1)])[self._segment]

    def total(self, vector: Tensor) -> Tensor:
        """(size,) or (rows, size) → (slots,): the sum over each slot, over all rows."""
        flat = vector.sum(0) if vector.dim() == 2 else vector
        return flat.new_zeros(len(self.slots) + 1).index_add_(0, self._segment, flat)[:-1]


class Carried:
    """Candidates carried out from outside, one for each slot; see `torchdecay.observe.verify.probe.ByHand`."""

    def __init__(
        self, optimizer: Any, segments: Segments, candidates: Sequence[Candidate | None], multiple: Tensor
    ) -> None:
        self._segments, self._candidates, self._multiple = segments, candidates, multiple
        self._special = [
            _Special(slot, one.form, one.site, [times * amount for amount in one.amounts], optimizer)
            for slot, one, times in zip(segments.slots, candidates, multiple.tolist(), strict=True)
            if one is not None and one.form is not None
        ]
        groups = [optimizer.param_groups[slot.group] for slot in segments.slots]
        signs = [-1.0 if maximizes(optimizer, group) else 1.0 for group in groups]
        self._signs = segments.spread(torch.tensor(signs, dtype=torch.float64))
        self._gradient = self._vectors(Site.GRADIENT)
        self._before, self._after = self._vectors(Site.BEFORE), self._vectors(Site.AFTER)
        self._beside = self._vectors(Site.BEFORE, beside=True)
        self._start = torch.empty(0)

    def before(self, step: int, weights: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """The pulls that come before the update."""
        self._start = weights
        if self._gradient:
            gradients = gradients + self._signs * self._gradient[step] * weights
            weights = weights * (1 - self._before[step])
        for one in self._special:
            if one.site is Site.GRADIENT:
                gradients[one.span] += self._signs[one.span] * one.amounts[step] * one.direction(weights[one.span])
            elif one.site is Site.BEFORE and not isinstance(one.decay.gate, Cautious):
                weights[one.span] -= one.amounts[step] * one.direction(weights[one.span])
        return weights, gradients

    def after(self, step: int, weights: Tensor) -> Tensor:
        """The pulls that come after the update."""
        if self._after:
            weights = weights * (1 - self._after[step]) - self._beside[step] * self._start
        for one in self._special:
            weights[one.span] = one.after(weights[one.span], self._start[one.span], one.amounts[step])
        return weights

    def _vectors(self, site: Site, *, beside: bool = False) -> list[Tensor]:
        """For each step the plain amounts at one site, spread over the slots."""
        steps = max((len(one.amounts) for one in self._candidates if one is not None), default=0)
        chosen = [
            one.amounts
            if one is not None and one.form is None and (one.site, one.beside) == (site, beside)
            else (0.0,) * steps
            for one in self._candidates
        ]
        return [self._segments.spread(row * self._multiple) for row in torch.tensor(chosen, dtype=torch.float64).T]


class _Special:
    """A pull that is more than c·λ·θ, on the small tensor of one slot."""

    def __init__(self, slot: Slot, form: Expectation, site: Site, amounts: list[float], optimizer: Any) -> None:
        assert form.decay is not None
        self.slot, self.span, self.site, self.decay, self.amounts = slot, slot.span, site, form.decay, amounts
        self._optimizer = optimizer
        wide = torch.complex128 if slot.param.is_complex() else torch.float64
        reference = torch.zeros(()) if form.reference is None else local(form.reference).detach()
        self._reference = reference.to("cpu", wide)
        mask = torch.tensor(True) if form.mask is None else local(form.mask).cpu()
        weighs = mask.dtype is not torch.bool
        self._mask = torch.tensor(True) if weighs else mask
        self._weights = mask.double() if weighs else torch.ones((), dtype=torch.float64)

    def direction(self, part: Tensor) -> Tensor:
        """M ⊙ ∇R(θ − ref), flat."""
        pulled = self.decay.regularizer.gradient(self._shaped(part) - self._reference)
        return _flat(torch.where(self._mask, pulled * self._weights, torch.zeros_like(pulled)))

    def after(self, part: Tensor, begun: Tensor, amount: float) -> Tensor:
        """What the pull makes of the weights after an update that began at `begun`."""
        if isinstance(self.decay.gate, Cautious):
            agreement = (begun - part) * begun
            open_ = agreement >= 0 if self.decay.gate.zero_update == "decay" else agreement > 0
            return part - amount * open_ * self.direction(begun)
        if self.site is not Site.AFTER:
            return part
        if not self.decay.proximal:
            return part - amount * self.direction(part)
        threshold: Any = amount if self._weights.dim() == 0 else amount * self._weights
        regularizer = self.decay.regularizer
        if isinstance(regularizer, PNorm):
            weighed = amount * self._weights
            return _flat(regularizer.step(self._shaped(part), self._shaped(begun), weighed)) if amount else part
        if not regularizer.smooth:
            group = self._optimizer.param_groups[self.slot.group]
            found = step_size(self._optimizer, group, self.slot.param, regularizer)
            size = found.whole() if isinstance(found, Elementwise) else found
            threshold = threshold * (local(size).detach().double().cpu() if isinstance(size, Tensor) else size)
        theta = self._shaped(part)
        moved = self._reference + regularizer.prox(theta - self._reference, threshold)
        return _flat(torch.where(self._mask, moved, theta))

    def _shaped(self, part: Tensor) -> Tensor:
        if self.slot.param.is_complex():
            return torch.view_as_complex(part.reshape(*self.slot.shape, 2).contiguous())
        return part.reshape(self.slot.shape)


Simulate = Callable[[Tensor], Tensor]


def fit(
    simulate: Simulate, target: Tensor, without: Tensor, segments: Segments, start: Tensor, *, rounds: int = 3
) -> Fit:
    """Find the multiple of each slot's candidate that comes nearest to a trajectory, by Newton's steps.

    Args:
        simulate: multiples → trajectory, (steps + 1, size).
        target: the trajectory to explain.
        without: the trajectory at multiple 0.
        segments: sums over slots.
        start: (slots,), where to begin.
        rounds: most steps to take.
    """
    multiple = start.clone()
    found = simulate(multiple)
    scale = segments.total(target[1:].square() + target[:-1].square()).sqrt()
    best = segments.total((target - found).square()).sqrt()
    reach = torch.zeros_like(best)
    for _ in range(rounds):
        change = (simulate(multiple + _NUDGE) - found) / _NUDGE
        steepness = segments.total(change.square())
        reach = steepness.sqrt()
        step = segments.total(change * (target - found)) / steepness.clamp(min=torch.finfo(torch.float64).tiny)
        step = torch.where(steepness > 0, step, torch.zeros_like(step)).nan_to_num(0.0, 0.0, 0.0)
        tried = multiple + step
        found_there = simulate(tried)
        residual = segments.total((target - found_there).square()).sqrt()
        better = residual < best
        multiple = torch.where(better, tried, multiple)
        best = torch.where(better, residual, best)
        found = torch.where(segments.spread(better.double()) > 0, found_there, found)
        if not bool((better & (step.abs() > _MATCH)).any()):
            break
    best = best.nan_to_num(torch.inf, torch.inf)
    # An optimizer that sees only signs does not move with a small change, but with the whole.
    reach = torch.maximum(reach, segments.total((found - without).square()).sqrt()).nan_to_num(0.0, 0.0)
    return Fit(multiple, best, segments.noise * scale, reach)


def _noise(param: Tensor) -> float:
    """Relative error of a few steps in this dtype; owed shrinks of low precision are paid in parts of 2⁻⁸."""
    eps = torch.finfo(local(param).dtype).eps
    return max(eps, _LOW_PRECISION_NOISE) if eps > 1e-6 else 4 * eps


def _flat(theta: Tensor) -> Tensor:
    return torch.view_as_real(theta).reshape(-1) if theta.is_complex() else theta.reshape(-1)
