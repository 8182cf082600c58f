"""Norms and products of many weights and what lies beside them, in as few passes and calls as torch allows."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from torchdecay.apply import kernels
from torchdecay.batches import PLAIN, are_small, rows


def are_summed(tensors: Sequence[Tensor]) -> bool:
    """Whether sums over tensors are taken here: all of each is, on a CPU, in a precision that sums are taken in."""
    kinds = set(zip(map(type, tensors), map(_KIND, tensors), strict=True))
    return all(kind in PLAIN and dtype in _SUMMED and on.type == "cpu" for kind, (dtype, on) in kinds)


_KIND = attrgetter("dtype", "device")
_SUMMED = (torch.float32, torch.float64)


def moments_beside(
    params: Sequence[Tensor], copies: Sequence[Tensor], others: Sequence[Tensor] | None, run: kernels.Run
) -> Tensor:
    """‖C − P‖, ⟨O, C − P⟩ and ‖O‖ of params P, copies C and others O, a row for each of some weights of one batch.

    Without others the first alone; of an O that is not C the last is left out. A kernel on a large one goes by `run`.
    """
    if are_small(params):
        first = rows(copies)
        is_own = others is not None and others[0] is copies[0]
        return moments_of_rows(rows(params), first, first if is_own else None if others is None else rows(others))
    made = []
    for place, (param, copy) in enumerate(zip(params, copies, strict=True)):
        made.append(_one(param, copy, None if others is None else others[place], run))
    found = torch.stack(made)
    found[:, ::2] = found[:, ::2].sqrt()
    return found


def moments_of_rows(params: Tensor, copies: Tensor, others: Tensor | None) -> Tensor:
    """`moments_beside` of small weights that are the rows of matrices."""
    offset = copies - params
    columns = [torch.linalg.vector_norm(offset, dim=1)]
    if others is not None:
        columns.append((others * offset).sum(dim=1))
        columns += [torch.linalg.vector_norm(others, dim=1)] if others is copies else []
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
