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
    """‖C − P‖, ⟨O, C − P⟩ and ‖O‖ of params P, copies C and others O, a row for each of some weights of one batch.

    Without others the first alone; of an O that is not C the last is left out. A kernel on a large one goes by `run`.
    """
    is_own = others is not None and others[0] is copies[0]
    if params[0].numel() > SMALL:
        made = []
        for place, (param, copy) in enumerate(zip(params, copies, strict=True)):
            made.append(_one(param, copy, None if others is None else others[place], run))
        found = torch.stack(made)
        found[:, ::2] = found[:, ::2].sqrt()
        return found
    first = rows(copies)
    offset = first - rows(params)
    columns = [torch.linalg.vector_norm(offset, dim=1)]
    if others is not None:
        beside_them = first if is_own else rows(others)
        columns.append((beside_them * offset).sum(dim=1))
        columns += [torch.linalg.vector_norm(beside_them, dim=1)] if is_own else []
    return torch.stack(columns, dim=1).double()


def _one(param: Tensor, copy: Tensor, other: Tensor | None, run: kernels.Run) -> Tensor:
    """The same of one large weight, with squares for norms."""
    read = [copy] if other is None or other is copy else [copy, other]
    # A compiled sum is one, and of many parts in the precision of the weights.
    exact = torch.float64 if run is kernels.in_parts else param.dtype
    count = 1 if other is None else 3 if other is copy else 2
    sums = [torch.zeros((), dtype=exact) for _ in range(count)]
    run(_moments_, param, 0.0, (*read, *sums), len(read))
    return torch.stack(sums).double()


def _moments_(p: Tensor, amount: Any, parts: Sequence[Tensor], count: int) -> None:
    copy, other, sums = parts[0], parts[count - 1], parts[count:]
    offset = torch.sub(copy, p, out=kernels.scratch(p))
    for total, left, right in zip(sums, (offset, other, other), (offset, offset, other), strict=False):
        if p.dim() == 1 and not torch.compiler.is_compiling():
            total.add_(torch.dot(left, right))
        else:
            total.add_((left * right).sum())
