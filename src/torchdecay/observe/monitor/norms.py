"""Sums over whole tensors, where a sample would not do: ‖θ‖, ‖g‖ and ⟨θ, g⟩."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchdecay.apply.rounding import is_low
from torchdecay.apply.work import buckets
from torchdecay.observe.monitor.layout import Tracked
from torchdecay.observe.monitor.samples import wide
from torchdecay.plans.parameters import WEIGHTS
from torchdecay.sharding import local, norm

_PART = 1 << 18


def norms_of(tensors: dict[int, Tensor]) -> dict[int, Tensor]:
    """‖·‖ of each tensor, by as few kernels as there are devices and dtypes."""
    keys, norms = [*tensors], dict[int, Tensor]()
    for places in buckets(tensors.values()):
        some = [tensors[keys[place]] for place in places]
        dtype = torch.float32 if is_low(some[0]) else None
        norms |= zip((keys[place] for place in places), torch._foreach_norm(some, 2, dtype), strict=True)
    return norms


def values_of(gradient: Tensor) -> Tensor:
    """What of a gradient has a norm: all, the values of a sparse one."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def radial_of(member: Tracked, gradient: Tensor | None) -> Tensor | None:
    """⟨θ, g⟩ of a tensor of which it is not yet known whether it is scale-invariant."""
    if member.invariant is not None or gradient is None or gradient.is_sparse or gradient.is_complex():
        return None
    if member.param.dim() < 2 or member.role not in (*WEIGHTS, ""):
        return None
    weight = local(member.param).detach()
    # In parts, because the product of a large tensor in float64 would need twice its memory.
    parts = zip(torch.split(weight.reshape(-1), _PART), torch.split(gradient.reshape(-1), _PART), strict=True)
    return torch.stack([(wide(w) * wide(g)).sum() for w, g in parts]).sum()


def square_of(found: float, tensor: Tensor | None) -> float:
    """‖·‖², where it overflowed in float32, or came to nothing there, taken of the tensor as it is by now."""
    if 0 < found < math.inf or tensor is None or tensor.is_sparse:
        return found
    size = float(norm(tensor))
    return size * size
