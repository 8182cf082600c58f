"""Norms and products of many weights and what lies beside them, in as few passes and calls as torch allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torchdecay.apply import kernels

SMALL = 1 << 14
"""Elements up to which weights of one size are worked on together, as the rows of a matrix."""
_ROOM = 1 << 20
"""Elements of such a matrix at most: some of them are there for a moment."""


def is_summed(tensor: Tensor) -> bool:
    """Whether sums over a tensor are taken here: all of it is, on a CPU, in a precision that sums are taken in."""
    plain = type(tensor) in kernels.PLAIN and tensor.dtype in (torch.float32, torch.float64)
    return plain and tensor.device.type == "cpu"


def batches(params: Sequence[Tensor]) -> list[list[int]]:
    """Places of small weights of one size and dtype together; of the others together too, each to be by itself."""
    found: dict[Any, list[list[int]]] = {}
    for place, param in enumerate(params):
        size = param.numel() if param.numel() <= SMALL else 0
        alike = found.setdefault((size, param.dtype if size else None), [[]])
        if size * len(alike[-1]) >= _ROOM:
            alike.append([])
        alike[-1].append(place)
    return [some for alike in found.values() for some in alike]


def rows(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one size as the rows of a matrix; of a single one it is that itself."""
    made: Tensor = kernels.joined(tensors).view(len(tensors), -1)
    return made


def moments_beside(
    params: Sequence[Tensor], copies: Sequence[Tensor], others: Sequence[Tensor] | None, run: kernels.Run
) -> Tensor:
    """‖C − P‖, ‖O‖ and ⟨O, C − P⟩, a row for each of some weights of one batch; without others the first alone.

    Args:
        params: P.
        copies: C, of their shapes.
        others: O, of their shapes.
        run: how a kernel is run on a large one.
    """
    if params[0].numel() > SMALL:
        found = torch.stack([_one(params, copies, others, place, run) for place in range(len(params))])
        found[:, :2] = found[:, :2].sqrt()
        return found
    offset = rows(copies) - rows(params)
    size = torch.linalg.vector_norm(offset, dim=1)
    if others is None:
        distances: Tensor = size[:, None].double()
        return distances
    beside_them = rows(others)
    product = (beside_them * offset).sum(dim=1)
    return torch.stack([size, torch.linalg.vector_norm(beside_them, dim=1), product], dim=1).double()


def _one(
    params: Sequence[Tensor], copies: Sequence[Tensor], others: Sequence[Tensor] | None, place: int, run: kernels.Run
) -> Tensor:
    """The same of one large weight, with squares for norms."""
    param, read = params[place], [copies[place]] if others is None else [copies[place], others[place]]
    # A compiled sum is one, and of many parts in the precision of the weights.
    exact = torch.float64 if run is kernels.in_parts else param.dtype
    sums = [torch.zeros((), dtype=exact) for _ in range(1 if others is None else 3)]
    run(_moments_, param, 0.0, (*read, *sums), len(read))
    return torch.stack(sums).double()


def _moments_(p: Tensor, amount: Any, parts: Sequence[Tensor], count: int) -> None:
    offset, sums = torch.sub(parts[0], p, out=kernels.scratch(p)), parts[count:]
    other = parts[1] if count > 1 else offset
    for total, left, right in zip(sums, (offset, other, other), (offset, other, offset), strict=False):
        if p.dim() == 1 and not torch.compiler.is_compiling():
            total.add_(torch.dot(left, right))
        else:
            total.add_((left * right).sum())
