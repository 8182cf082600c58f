"""Which pull explains what an optimizer did: carry candidates out by hand, hold them against it, and find how much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchdecay.observe.verify.borrowing import local
from torchdecay.observe.verify.expected import Expectation
from torchdecay.observe.verify.slots import Slot
from torchdecay.optimizers.elementwise import Elementwise
from torchdecay.optimizers.steps import step_size
from torchdecay.plans.controllers import Cautious
from torchdecay.plans.decay import Site

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
        self,
        optimizer: Any,
        segments: Segments,
        candidates: Sequence[Candidate | None],
        multiple: Tensor,
    ) -> None:
        self._optimizer, self._segments = optimizer, segments
        self._special = [
            (slot, one, float(multiple[i]))
            for i, (slot, one) in enumerate(zip(segments.slots, candidates, strict=True))
            if one is not None and one.form is not None
        ]
        self._gradient = self._vectors(candidates, multiple, Site.GRADIENT, False)
        self._before = self._vectors(candidates, multiple, Site.BEFORE, False)
        self._beside = self._vectors(candidates, multiple, Site.BEFORE, True)
        self._after = self._vectors(candidates, multiple, Site.AFTER, False)
        self._start = torch.empty(0)

    def before(self, step: int, weights: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """The pulls that come before the update."""
        self._start = weights
        if self._gradient:
            gradients = gradients + self._gradient[step] * weights
            weights = weights * (1 - self._before[step])
        for slot, one, multiple in self._special:
            if one.form is None or one.form.decay is None or isinstance(one.form.decay.gate, Cautious):
                continue
            amount = multiple * one.amounts[step]
            if one.site is Site.GRADIENT:
                sign = -1.0 if self._optimizer.param_groups[slot.group].get("maximize") else 1.0
                gradients[slot.span] += sign * amount * _direction(one.form, slot, weights[slot.span])
            elif one.site is Site.BEFORE:
                weights[slot.span] -= amount * _direction(one.form, slot, weights[slot.span])
        return weights, gradients

    def after(self, step: int, weights: Tensor) -> Tensor:
        """The pulls that come after the update."""
        if self._after:
            weights = weights * (1 - self._after[step]) - self._beside[step] * self._start
        for slot, one, multiple in self._special:
            decay = one.form.decay if one.form is not None else None
            if one.form is None or decay is None:
                continue
            amount = multiple * one.amounts[step]
            part = weights[slot.span]
            if isinstance(decay.gate, Cautious):
                begun = self._start[slot.span]
                agreement = (begun - part) * begun
                open_ = agreement >= 0 if decay.gate.zero_update == "decay" else agreement > 0
                weights[slot.span] = part - amount * open_ * _direction(one.form, slot, begun)
            elif one.site is Site.AFTER and decay.proximal:
                weights[slot.span] = self._proximal(one.form, slot, part, amount)
            elif one.site is Site.AFTER:
                weights[slot.span] = part - amount * _direction(one.form, slot, part)
        return weights

    def _proximal(self, form: Expectation, slot: Slot, part: Tensor, amount: float) -> Tensor:
        assert form.decay is not None
        size: float | Tensor = 1.0
        if not form.decay.regularizer.smooth:
            found = step_size(self._optimizer, self._optimizer.param_groups[slot.group], slot.param)
            size = found.whole() if isinstance(found, Elementwise) else found
        threshold = amount * (local(size).detach().double().cpu() if isinstance(size, Tensor) else size)
        theta = _shaped(part, slot)
        reference = _reference(form, slot)
        moved = reference + form.decay.regularizer.prox(theta - reference, threshold)
        if form.mask is not None:
            moved = torch.where(_mask(form, slot), moved, theta)
        return _flat(moved)

    def _vectors(
        self, candidates: Sequence[Candidate | None], multiple: Tensor, site: Site, beside: bool
    ) -> list[Tensor]:
        """For each step the plain amounts at one site, spread over the slots."""
        rows = []
        groups = self._optimizer.param_groups
        for step in range(max((len(one.amounts) for one in candidates if one is not None), default=0)):
            amounts = [
                one.amounts[step]
                if one is not None and one.form is None and one.site is site and one.beside is beside
                else 0.0
                for one in candidates
            ]
            if site is Site.GRADIENT:
                amounts = [
                    -amount if groups[slot.group].get("maximize") else amount
                    for amount, slot in zip(amounts, self._segments.slots, strict=True)
                ]
            rows.append(self._segments.spread(torch.tensor(amounts, dtype=torch.float64) * multiple))
        return rows


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


def _direction(form: Expectation, slot: Slot, part: Tensor) -> Tensor:
    """M ⊙ ∇R(θ − ref), flat."""
    assert form.decay is not None
    theta = _shaped(part, slot)
    pulled = form.decay.regularizer.gradient(theta - _reference(form, slot))
    if form.mask is not None:
        pulled = torch.where(_mask(form, slot), pulled, torch.zeros_like(pulled))
    return _flat(pulled)


def _shaped(part: Tensor, slot: Slot) -> Tensor:
    if slot.param.is_complex():
        return torch.view_as_complex(part.reshape(*slot.shape, 2).contiguous())
    return part.reshape(slot.shape)


def _flat(theta: Tensor) -> Tensor:
    return torch.view_as_real(theta).reshape(-1) if theta.is_complex() else theta.reshape(-1)


def _reference(form: Expectation, slot: Slot) -> Tensor:
    if form.reference is None:
        return torch.zeros(())
    wide = torch.complex128 if slot.param.is_complex() else torch.float64
    return local(form.reference).detach().to("cpu", wide)


def _mask(form: Expectation, slot: Slot) -> Tensor:
    assert form.mask is not None
    return local(form.mask).cpu().expand(slot.shape)
