"""What goes by the whole of a weight, worked out on the parts that each process has: nobody gathers the weights.

Of a matrix that is cut along its rows WᵀW is the sum of those of its parts, and σ₁u₁v₁ᵀ = W·v₁v₁ᵀ, v₁ being its first
eigenvector; of one that is cut along columns alone WWᵀ is, and u₁u₁ᵀ·W. In the precision of float64 that is what the
singular value decomposition says.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torchdecay.sharding import all_over_ranks, cuts, cuts_along, is_dtensor, local, sums_together

_TINY = torch.finfo(torch.float64).tiny


def by_grams(param: Tensor) -> bool:
    """Whether the products of its parts are no larger than the weight, so that they are what is summed."""
    if not (is_dtensor(param) and cuts(param)) or param.is_complex() or local(param).device.type == "mps":
        return False
    rows, columns = param.shape[0], param.numel() // max(1, param.shape[0])
    along = cuts_along(param)
    return (along == {0} and columns <= rows) or (0 not in along and rows <= columns)


def spectral_(params: Sequence[Tensor], amounts: Sequence[float | Tensor], references: Sequence[Tensor | None]) -> None:
    """θ ← θ − amount·σ₁u₁v₁ᵀ of θ − ref, of weights that are cut; one reduction for all."""
    off, grams = [], []
    for param, reference in zip(params, references, strict=True):
        part = local(param.detach())
        part = part if reference is None else part - reference
        matrix = torch.nan_to_num(part.double(), nan=0.0, posinf=0.0, neginf=0.0)
        # A part without elements does not say how long its rows are.
        matrix = matrix.reshape(part.shape[0], -1 if part.numel() else param.numel() // max(1, param.shape[0]))
        off.append(matrix)
        grams.append(matrix.T @ matrix if cuts_along(param) == {0} else matrix @ matrix.T)
    for param, amount, matrix, gram in zip(params, amounts, off, sums_together(grams, params), strict=True):
        first = torch.linalg.eigh(gram).eigenvectors[:, -1:]
        pull = (matrix @ first) @ first.T if cuts_along(param) == {0} else first @ (first.T @ matrix)
        part = local(param.detach())
        part.sub_((pull * amount).reshape(part.shape).to(part.dtype))


def deviations(parts: Sequence[Tensor], of: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and population deviation of wholes, of which these are what is here; two reductions for all."""
    own = [one if one.device.type == "mps" else one.double() for one in parts]
    counts = torch.tensor([one.numel() for one in of], dtype=own[0].dtype, device=own[0].device)
    mean = all_over_ranks(torch.stack([one.sum() for one in own]), of) / counts
    off = torch._foreach_sub(own, mean.unbind())
    squares = all_over_ranks(torch.stack([one.square().sum() for one in off]), of)
    return mean, (squares / counts).sqrt()


def toward_means_(params: Sequence[Tensor], mus: Sequence[Tensor]) -> None:
    """The proximal step of μ times the deviation: every element goes toward the mean, by μ/(n·std) of the way there."""
    means, found = deviations([local(param.detach()) for param in params], params)
    for param, mu, mean, deviation in zip(params, mus, means.unbind(), found.unbind(), strict=True):
        part = local(param.detach())
        share = (1 - mu / (param.numel() * deviation).clamp(min=_TINY)).clamp(min=0)
        part.copy_(mean + (part.double() - mean) * share)
