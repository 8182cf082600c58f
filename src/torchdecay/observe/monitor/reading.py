"""One step, measured: snapshots before it, around the passes of decay, and after it; one row of sums per tensor.

Nothing is read from a device before the end, and there once. The extra memory is up to three samples of each tensor
and one of its gradient, held for the one step, and one sample held from the step before to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchdecay.apply.handle import Handle
from torchdecay.apply.kernels import buckets
from torchdecay.apply.rounding import is_low
from torchdecay.apply.sharded import norm
from torchdecay.observe.forecast.equilibrium import equilibrium
from torchdecay.observe.groups import float_of
from torchdecay.observe.monitor.layout import Layout, Tracked
from torchdecay.observe.monitor.measured import Measured, Sums
from torchdecay.observe.monitor.samples import aligned, over_ranks, sampled, wide
from torchdecay.observe.pulls import Pulled, own_pulls
from torchdecay.observe.verify.borrowing import local
from torchdecay.optimizers.cards import update_of
from torchdecay.optimizers.gradients import as_seen
from torchdecay.plans.controllers import RowGate
from torchdecay.plans.decay import Site

_PART = 1 << 18
_UPPER = (0, 1, 2, 3, 5, 6, 7, 10, 11, 15)
"""Where the products of four vectors stand that `Sums` begins with, each pair once."""


@dataclass(eq=False)
class _Seen:
    """Samples of one tensor: before the step, and after the passes before the update and the update, where it has any.

    The gradient is a sample as the update rule sees it, where that needs one.
    """

    member: Tracked
    lr: float
    planned: float | None
    rotation: float
    start: Tensor
    gradient: Tensor | None
    is_updated: bool
    radial: Tensor | None
    decayed: Tensor | None = None
    updated: Tensor | None = None


class Reading:
    """Measures one step: `before`, `decayed`, `updated`, `after`, in this order, around what happens in between.

    Displacements are measured on `most` elements of each tensor, None is all; `left` is the sample of each that the
    step before left behind, by `id(parameter)`; `moving` the groups whose weight_decay a hand schedules.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        layout: Layout,
        handle: Handle | None,
        most: int | None,
        left: dict[int, Tensor],
        moving: Set[int],
    ) -> None:
        self.moving = moving
        self.optimizer, self.members, self.handle, self.most = optimizer, layout.members, handle, most
        self._left = left
        self._updates = [update_of(optimizer, group) for group in optimizer.param_groups]
        self._seen: list[_Seen] = []
        self._norms: list[tuple[Tensor, Tensor]] = []
        self._owed: dict[str, float] = {}

    @torch.no_grad()
    def before(self) -> None:
        """When the gradients are there, and nothing has moved."""
        groups = self.optimizer.param_groups
        lrs = [math.nan if (lr := float_of(group.get("lr"))) is None else lr for group in groups]
        # A weight_decay that another hand schedules in the groups is the plan of the step that it is written for.
        own = own_pulls(self.optimizer) if self.handle is None else []
        said: dict[Pulled, tuple[float | None, float]] = {}
        gradients = [_gradient(member) for member in self.members]
        for member, gradient in zip(self.members, gradients, strict=True):
            pulled, lr = member.pulled, lrs[member.group]
            if own and pulled.source != "plan":
                written = own[member.group][0]
                # To 0 and from 0 a hand may have dropped it, or taken the wrong group.
                if member.group in self.moving or (pulled.decay and written.decay):
                    pulled = written
            if pulled not in said:
                said[pulled] = _planned(_by_now(pulled, self.handle), lr)
            planned, rotation = said[pulled]
            start, own_gradient = sampled(member.param, self.most).clone(), self._as_seen(member, gradient)
            # Optimizers pass over what has no gradient, and decay with them.
            planned = planned if gradient is not None else 0.0
            is_updated = gradient is not None and not gradient.is_sparse
            radial = _radial(member, gradient)
            self._seen.append(_Seen(member, lr, planned, rotation, start, own_gradient, is_updated, radial))
        weights = _norms([local(member.param).detach() for member in self.members])
        values = _norms([_values(gradient, like=weights[0]) for gradient in gradients])
        self._norms = list(zip(weights, values, strict=True))
        self._owed = self._debts()

    def decayed(self) -> None:
        """When passes of decay before the update are over."""
        for seen in self._with_passes():
            seen.decayed = sampled(seen.member.param, self.most).clone()

    def updated(self) -> None:
        """When the update is over, and passes after it are to come."""
        for seen in self._with_passes():
            seen.updated = sampled(seen.member.param, self.most).clone()

    @torch.no_grad()
    def after(self) -> list[Measured]:
        """When all is over: what each tensor did."""
        steps = _steps_of(self.optimizer, self.members)
        rows = [self._row(seen, norms, steps) for seen, norms in zip(self._seen, self._norms, strict=True)]
        numbers = over_ranks(rows, [member.param for member in self.members])
        scale = getattr(self.optimizer, "grad_scale", None)
        unscaled = 1.0 if scale is None else 1 / float(scale)
        debts, duals = self._debts(), {} if self.handle is None else self.handle.duals
        made = []
        for seen, row in zip(self._seen, numbers, strict=True):
            sums, name = Sums(*(row[place] for place in _UPPER), *row[16:]), seen.member.name
            weight, gradient = _square(sums.weight, seen.member.param), _square(sums.gradient, seen.member.param.grad)
            sums = sums._replace(weight=weight, gradient=gradient * unscaled**2, radial=sums.radial * unscaled)
            owed = self._owed.get(name, 0.0) - debts.get(name, 0.0)
            dual = duals.get(name, math.nan) if seen.member.is_constrained else math.nan
            made.append(Measured(seen.member, sums, seen.lr, seen.planned, seen.rotation, owed, dual))
        return made

    def _row(self, seen: _Seen, norms: tuple[Tensor, Tensor], steps: dict[int, float]) -> Tensor:
        """What `Sums` is made of, on the device."""
        member, start = seen.member, wide(seen.start)
        end = wide(sampled(member.param, self.most))
        decay, update = self._parts(seen, start, end, steps)
        met = start if seen.updated is None or member.pulled.site is not Site.AFTER else wide(seen.updated)
        stacked = torch.stack([start, decay, update, met])
        share = local(member.param).numel() / max(1, start.numel())
        nothing = start.new_zeros(())
        # Frozen entries count as zeros too: what matters is how many multiplications could be saved.
        others = [
            *(norm.to(start).square() for norm in norms),
            start.new_full((), math.nan) if seen.radial is None else seen.radial.to(start),
            (end == 0).sum().to(start) if member.counts_zeros else nothing,
            ((decay == 0) & (start != 0)).sum().to(start) if member.is_cautious else nothing,
            start.new_full((), float(start.numel())),
            *self._between(member, start),
        ]
        return torch.cat([(stacked @ stacked.T).flatten().mul_(share), torch.stack(others)])

    def _between(self, member: Tracked, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """⟨b, l⟩, ⟨b, b⟩ and ⟨l, l⟩ of what moved between the steps, b, and of what the step before left, l."""
        left, decay = self._left.get(id(member.param)), member.pulled.decay
        if left is None or left.shape != start.shape or (decay is not None and isinstance(decay.gate, RowGate)):
            # Rows that pay late are paid for when they are read.
            unknown = start.new_full((), math.nan)
            return unknown, unknown, unknown
        left = wide(left)
        moved = start - left
        return moved @ left, moved @ moved, left @ left

    def _parts(self, seen: _Seen, start: Tensor, end: Tensor, steps: dict[int, float]) -> tuple[Tensor, Tensor]:
        """What decay displaced, and what the update did."""
        member, moved = seen.member, end - start
        if member.source == "pass":
            decay = torch.zeros_like(start)
            if seen.decayed is not None:
                decay += wide(seen.decayed) - start
            if seen.updated is not None:
                decay += end - wide(seen.updated)
            return decay, moved - decay
        rule = self._updates[member.group]
        if member.source == "state" and rule is not None and seen.is_updated:
            own: dict[str, Any] = {"step": steps.get(id(member.param), 0.0)}
            for name, one in self.optimizer.state.get(member.param, {}).items():
                if name in rule.reads and isinstance(one, Tensor):
                    own[name] = wide(sampled(one, self.most) if one.shape == member.param.shape else one)
            gradient = None if seen.gradient is None else wide(seen.gradient)
            update = rule.taken(self.optimizer.param_groups[member.group], own, gradient).neg_()
            return moved - update, update
        decay = start * -(seen.planned or 0.0)
        return decay, moved - decay

    def _with_passes(self) -> list[_Seen]:
        return [seen for seen in self._seen if seen.member.source == "pass"]

    def _debts(self) -> dict[str, float]:
        """Log-shrink that low-precision weights owe, as numbers below 0."""
        if self.handle is None or not any(is_low(member.param) for member in self.members):
            return {}
        return {name: debt for name, debt in self.handle.debts.items() if debt < 0}

    def _as_seen(self, member: Tracked, gradient: Tensor | None) -> Tensor | None:
        rule = self._updates[member.group] if member.source == "state" else None
        if rule is None or "grad" not in rule.reads or gradient is None or gradient.is_sparse:
            return None
        group = self.optimizer.param_groups[member.group]
        return as_seen(self.optimizer, group, sampled(gradient, self.most).clone())


def _gradient(member: Tracked) -> Tensor | None:
    gradient = member.param.grad
    if gradient is None or not member.param.requires_grad:
        return None
    return gradient if gradient.is_sparse else local(aligned(gradient, member.param)).detach()


def _by_now(pulled: Pulled, handle: Handle | None) -> Pulled:
    """The pull with the steps that the plan at work has counted, and the peak that it goes by."""
    decay = pulled.decay
    if handle is None or decay is None or pulled.wiring != "attached":
        return pulled
    needs_peak = decay.scale.needs_max_lr or decay.schedule.needs_lr
    peak = handle.max_lr(pulled.index, decay) if needs_peak else None
    return replace(pulled, steps=handle.steps(pulled.index), peak=peak, error=None)


def _planned(pulled: Pulled, lr: float) -> tuple[float | None, float]:
    """The fraction of each weight that decay is to take in the step that comes, None where it is no fraction.

    And the angle per step of a scale-invariant tensor at rest, in radians; NaN where no equation is known.
    """
    decay, rest = pulled.decay, None
    partial = decay is not None and (decay.mask is not None or isinstance(decay.gate, RowGate))
    if pulled.taken(lr) is not None:
        rest = equilibrium(pulled, pulled.values, lr=lr, pull=pulled.amount(lr))
    return None if partial else pulled.fraction(lr), math.nan if rest is None else rest.rotation


def _square(found: float, tensor: Tensor | None) -> float:
    """‖·‖², where it overflowed in float32, or came to nothing there, taken of the tensor as it is by now."""
    if 0 < found < math.inf or tensor is None or tensor.is_sparse:
        return found
    size = float(norm(tensor))
    return size * size


def _norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """‖·‖ of each tensor, by as few kernels as there are devices and dtypes."""
    norms: list[Tensor] = [tensors[0]] * len(tensors)
    for places in buckets(tensors):
        some = [tensors[place] for place in places]
        dtype = torch.float32 if is_low(some[0]) else None
        for place, found in zip(places, torch._foreach_norm(some, 2, dtype), strict=True):
            norms[place] = found
    return norms


def _values(gradient: Tensor | None, *, like: Tensor) -> Tensor:
    """What of a gradient has a norm: all, the values of a sparse one, nothing of none."""
    if gradient is None:
        return like.new_zeros(())
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _steps_of(optimizer: Optimizer, members: Sequence[Tracked]) -> dict[int, float]:
    """How many updates the state of each tensor has seen, read from each device at once."""
    by_device: dict[torch.device, list[tuple[int, Tensor]]] = {}
    told: dict[int, float] = {}
    for member in members:
        step = optimizer.state.get(member.param, {}).get("step")
        if isinstance(step, Tensor):
            by_device.setdefault(step.device, []).append((id(member.param), step.detach().float().reshape(())))
        elif step is not None:
            told[id(member.param)] = float(step)
    for pairs in by_device.values():
        told.update(zip([key for key, _ in pairs], torch.stack([one for _, one in pairs]).tolist(), strict=True))
    return told


def _radial(member: Tracked, gradient: Tensor | None) -> Tensor | None:
    """⟨θ, g⟩ of a tensor of which it is not yet known whether it is scale-invariant."""
    if member.invariant is not None or gradient is None or gradient.is_sparse or gradient.is_complex():
        return None
    if member.param.dim() < 2 or member.role not in ("weight", ""):
        return None
    weight = local(member.param).detach()
    # In parts, because the product of a large tensor in float64 would need twice its memory.
    parts = zip(torch.split(weight.reshape(-1), _PART), torch.split(gradient.reshape(-1), _PART), strict=True)
    return torch.stack([(wide(w) * wide(g)).sum() for w, g in parts]).sum()
