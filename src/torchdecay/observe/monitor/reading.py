"""One step, measured: snapshots before it, around the passes of decay, and after it; one row of sums per tensor.

Nothing is read from a device before the end, and there once. The extra memory is up to three samples of each tensor
and one of its gradient, held for the one step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchdecay.apply.handle import Handle
from torchdecay.apply.kernels import buckets
from torchdecay.apply.rounding import is_low
from torchdecay.observe.forecast.equilibrium import equilibrium
from torchdecay.observe.monitor.layout import Layout, Tracked
from torchdecay.observe.monitor.samples import aligned, over_ranks, sampled, wide
from torchdecay.observe.pulls import Pulled, own_pulls
from torchdecay.observe.verify.borrowing import local
from torchdecay.optimizers.cards import update_of
from torchdecay.optimizers.gradients import as_seen
from torchdecay.plans.controllers import RowGate
from torchdecay.plans.decay import Site

_PART = 1 << 18


@dataclass(frozen=True)
class Measured:
    """What one tensor did in one step.

    Attributes:
        member: which.
        lr: of its group.
        planned: the fraction that decay is to take; None where it is no fraction.
        rotation: the angle that it would settle at, if it is scale-invariant; NaN where that is not known.
        weight, gradient: ‖θ‖², ‖g‖², over all elements.
        tt, td, tu, dd, du, uu: inner products of θ before the step, the decay's displacement d and the update's, for
            all elements; of a large tensor, as its sample tells.
        bb, bd: the same of d and the weights that decay met: after the update where its pass comes after that.
        radial: |⟨θ, g⟩|/(‖θ‖‖g‖), where it was asked for, else NaN.
        zeros, masked: shares of the elements; NaN where that means nothing.
        sample: how many elements the inner products are from.
        owed: log-shrink that was put off in this step, by weights that pay late.
    """

    member: Tracked
    lr: float
    planned: float | None
    rotation: float
    weight: float
    gradient: float
    tt: float
    td: float
    tu: float
    dd: float
    du: float
    uu: float
    bb: float
    bd: float
    radial: float
    zeros: float
    masked: float
    sample: int
    owed: float


class Reading:
    """Measures one step: `before`, `decayed`, `updated`, `after`, in this order, around what happens in between.

    Args:
        optimizer: whose step.
        layout: its tensors.
        handle: the plan at work, or None.
        most: elements per tensor that displacements are measured on; None is all.
    """

    def __init__(self, optimizer: Optimizer, layout: Layout, handle: Handle | None, most: int | None) -> None:
        self.optimizer, self.layout, self.handle, self.most = optimizer, layout, handle, most
        self._updates = [update_of(optimizer, group) for group in optimizer.param_groups]
        self._start: list[Tensor] = []
        self._has_gradient: list[bool] = []
        self._gradients: list[Tensor | None] = []
        self._decayed: dict[int, Tensor] = {}
        self._updated: dict[int, Tensor] = {}
        self._weight_norms: list[Tensor] = []
        self._gradient_norms: list[Tensor] = []
        self._radial: list[Tensor | None] = []
        self._planned: list[float | None] = []
        self._rotations: list[float] = []
        self._lrs: list[float] = []
        self._owed: dict[str, float] = {}

    @torch.no_grad()
    def before(self) -> None:
        """When the gradients are there, and nothing has moved."""
        groups, members = self.optimizer.param_groups, self.layout.members
        lrs = [math.nan if (lr := group.get("lr")) is None else float(lr) for group in groups]
        # A weight_decay that another hand schedules in the groups is the plan of the step that it is written for.
        own = own_pulls(self.optimizer) if self.handle is None else []
        said: dict[Pulled, tuple[float | None, float]] = {}
        gradients: list[Tensor | None] = []
        for member in members:
            pulled = member.pulled
            if own and pulled.source != "plan" and pulled.decay and own[member.group][0].decay:
                pulled = own[member.group][0]
            if pulled not in said:
                lr, ahead = lrs[member.group], max(0, self._steps(member.group) - pulled.steps)
                said[pulled] = _planned(pulled, lr, ahead), _rotation(pulled, lr, ahead)
            planned, rotation = said[pulled]
            gradient = self._gradient(member)
            gradients.append(gradient)
            # Optimizers pass over what has no gradient, and decay with them.
            self._planned.append(planned if gradient is not None else 0.0)
            self._rotations.append(rotation)
            self._lrs.append(lrs[member.group])
            self._start.append(sampled(member.param, self.most).clone())
            self._has_gradient.append(gradient is not None and not gradient.is_sparse)
            self._gradients.append(self._seen(member, gradient))
        self._weight_norms = _norms([local(member.param).detach() for member in members])
        self._gradient_norms = _norms([_values(gradient, like=self._start[0]) for gradient in gradients])
        self._radial = [_radial(member, gradient) for member, gradient in zip(members, gradients, strict=True)]
        self._owed = self._debts()

    @torch.no_grad()
    def decayed(self) -> None:
        """When passes of decay before the update are over."""
        self._decayed = self._around_passes()

    @torch.no_grad()
    def updated(self) -> None:
        """When the update is over, and passes after it are to come."""
        self._updated = self._around_passes()

    @torch.no_grad()
    def after(self) -> list[Measured]:
        """When all is over: what each tensor did."""
        steps = _steps_of(self.optimizer, self.layout.members)
        rows = [self._row(place, member, steps) for place, member in enumerate(self.layout.members)]
        numbers = over_ranks(rows, [member.param for member in self.layout.members])
        scale = getattr(self.optimizer, "grad_scale", None)
        unscaled = 1.0 if scale is None else 1 / float(scale)
        debts = self._debts()
        return [
            self._told(place, member, row, unscaled, self._owed.get(member.name, 0.0) - debts.get(member.name, 0.0))
            for place, (member, row) in enumerate(zip(self.layout.members, numbers, strict=True))
        ]

    def _row(self, place: int, member: Tracked, steps: dict[int, float]) -> Tensor:
        start, end = wide(self._start[place]), wide(sampled(member.param, self.most))
        moved = end - start
        decay, update = self._parts(place, member, start, end, moved, steps)
        met = start
        if member.source == "pass" and member.pulled.site is Site.AFTER and place in self._updated:
            met = wide(self._updated[place])
        stacked = torch.stack([start, decay, update, met])
        share = local(member.param).numel() / max(1, start.numel())
        sums = (stacked @ stacked.T).flatten().mul_(share)
        weight, gradient, radial = self._weight_norms[place], self._gradient_norms[place], self._radial[place]
        nothing = sums.new_zeros(())
        # Frozen entries count as zeros too: what matters is how many multiplications could be saved.
        extra = [
            nothing if radial is None else radial.to(sums),
            (end == 0).sum().to(sums) if member.counts_zeros else nothing,
            ((decay == 0) & (start != 0)).sum().to(sums) if member.is_cautious else nothing,
            sums.new_full((), float(start.numel())),
        ]
        return torch.cat([sums, torch.stack([weight, gradient]).to(sums).square_(), torch.stack(extra)])

    def _parts(
        self, place: int, member: Tracked, start: Tensor, end: Tensor, moved: Tensor, steps: dict[int, float]
    ) -> tuple[Tensor, Tensor]:
        """What decay displaced, and what the update did."""
        if member.source == "pass":
            decay = torch.zeros_like(start)
            if place in self._decayed:
                decay += wide(self._decayed[place]) - start
            if place in self._updated:
                decay += end - wide(self._updated[place])
            return decay, moved - decay
        rule = self._updates[member.group]
        if member.source == "state" and rule is not None and self._has_gradient[place]:
            own: dict[str, Any] = {"step": steps.get(id(member.param), 0.0)}
            for name, one in self.optimizer.state.get(member.param, {}).items():
                if name in rule.reads and isinstance(one, Tensor):
                    own[name] = wide(sampled(one, self.most) if one.shape == member.param.shape else one)
            seen = self._gradients[place]
            group = self.optimizer.param_groups[member.group]
            update = rule.taken(group, own, None if seen is None else wide(seen)).neg_()
            return moved - update, update
        decay = start * -(self._planned[place] or 0.0)
        return decay, moved - decay

    def _told(self, place: int, member: Tracked, row: Sequence[float], unscaled: float, owed: float) -> Measured:
        tt, td, tu, _, _, dd, du, bd, _, _, uu, _, _, _, _, bb, weight, gradient, radial, zeros, masked, count = row
        size = math.sqrt(weight * gradient)
        return Measured(
            member=member,
            lr=self._lrs[place],
            planned=self._planned[place],
            rotation=self._rotations[place],
            weight=weight,
            gradient=gradient * unscaled**2,
            tt=tt,
            td=td,
            tu=tu,
            dd=dd,
            du=du,
            uu=uu,
            bb=bb,
            bd=bd,
            radial=abs(radial) / size if self._radial[place] is not None and size > 0 else math.nan,
            zeros=zeros / count if member.counts_zeros and count else math.nan,
            # Weights that pay late show no mask in a step without a payment.
            masked=masked / count if member.is_cautious and count and dd > 0 else math.nan,
            sample=int(count),
            owed=owed,
        )

    def _around_passes(self) -> dict[int, Tensor]:
        return {
            place: sampled(member.param, self.most).clone()
            for place, member in enumerate(self.layout.members)
            if member.source == "pass"
        }

    def _steps(self, group: int) -> int:
        """Steps that the plan at work has counted in a group."""
        return 0 if self.handle is None else self.handle.steps(group)

    def _debts(self) -> dict[str, float]:
        """Log-shrink that low-precision weights owe, as numbers below 0."""
        if self.handle is None or not any(is_low(member.param) for member in self.layout.members):
            return {}
        return self.handle.debts

    def _gradient(self, member: Tracked) -> Tensor | None:
        gradient = member.param.grad
        if gradient is None or not member.param.requires_grad:
            return None
        return gradient if gradient.is_sparse else local(aligned(gradient, member.param)).detach()

    def _seen(self, member: Tracked, gradient: Tensor | None) -> Tensor | None:
        """A sample of the gradient as the update rule sees it, where one is needed."""
        rule = self._updates[member.group]
        if gradient is None or gradient.is_sparse or member.source != "state" or rule is None:
            return None
        if "grad" not in rule.reads:
            return None
        group = self.optimizer.param_groups[member.group]
        return as_seen(self.optimizer, group, sampled(gradient, self.most).clone())


def _planned(pulled: Pulled, lr: float, ahead: int) -> float | None:
    """The fraction of each weight that decay is to take in the step that comes, None where it is no fraction."""
    decay = pulled.decay
    if decay is not None and (decay.mask is not None or isinstance(decay.gate, RowGate)):
        return None
    return pulled.fraction(lr, ahead)


def _rotation(pulled: Pulled, lr: float, ahead: int) -> float:
    """The angle per step of a scale-invariant tensor at rest, in radians; NaN where no equation is known."""
    rest = None
    if pulled.taken(lr, ahead) is not None:
        rest = equilibrium(pulled, pulled.values, lr=lr, pull=pulled.amount(lr, ahead))
    return math.nan if rest is None else rest.rotation


def _norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """‖·‖ of each tensor, by as few kernels as there are devices and dtypes."""
    norms: list[Tensor] = [tensors[0]] * len(tensors)
    for places in buckets(tensors):
        some = [tensors[place] for place in places]
        dtype = torch.float32 if is_low(some[0]) else None
        for place, norm in zip(places, torch._foreach_norm(some, 2, dtype), strict=True):
            norms[place] = norm
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
