"""LOSS rows: any regularizer as a differentiable penalty."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torchdecay.apply.penalty import sum_penalty
from torchdecay.apply.work import Target
from torchdecay.plans.regularizers import L1, L2, ElasticNet, Regularizer
from torchdecay.sharding import beside, is_dtensor, over_ranks, whole


def penalty_of(
    regularizer: Regularizer, coefficient: float, params: Sequence[Tensor], targets: Sequence[Target]
) -> Tensor:
    """coefficient·Σ R(M ⊙ (θ − ref)) over the tensors, differentiable; L1 and L2 as one autograd node."""
    # FSDP2 shows whole weights between forward and backward, and its shards at other times.
    references = [t.held if t.held is None else beside(t.held, p) for t, p in zip(targets, params, strict=True)]
    masks = [t.mask if t.mask is None else beside(t.mask, p) for t, p in zip(targets, params, strict=True)]
    terms = _linear_terms(regularizer)
    if terms is not None and all(t.weights is None for t in targets):
        l1, l2 = terms
        return sum_penalty(params, l1=coefficient * l1, l2=coefficient * l2 / 2, references=references, masks=masks)
    total = torch.zeros(())
    for param, reference, mask, target in zip(params, references, masks, targets, strict=True):
        offset = param if reference is None else param - reference
        if mask is not None:
            offset = torch.where(mask, offset, torch.zeros_like(offset))
        if target.weights is not None:
            # L2 alone has such: ½·M·x² is ½·(√M·x)².
            offset = offset * beside(target.weights, param).sqrt()
        # As in `penalty`: half precision is summed in float32.
        offset = offset.float() if offset.dtype.itemsize < 4 else offset
        total = total.to(param.device) + coefficient * _value(regularizer, offset)
    return total


def _value(regularizer: Regularizer, offset: Tensor) -> Tensor:
    """R, with the whole's value on each rank and the gradient of what is there."""
    if not is_dtensor(offset):
        return regularizer.value(offset)
    if not regularizer.elementwise:
        return regularizer.value(whole(offset))
    here = regularizer.value(offset.to_local())  # type: ignore[attr-defined]
    # In this order: here + (whole − here) would be rounded otherwise on each rank.
    return over_ranks(here.detach(), offset) + (here - here.detach())


def _linear_terms(regularizer: Regularizer) -> tuple[float, float] | None:
    """(l1, l2) where R = l1·Σ|θ| + l2·½‖θ‖²."""
    if isinstance(regularizer, L2):
        return 0.0, 1.0
    if isinstance(regularizer, L1):
        return 1.0, 0.0
    return (regularizer.l1, regularizer.l2) if isinstance(regularizer, ElasticNet) else None
