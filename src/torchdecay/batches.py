"""Small tensors of one shape together, as the rows of a matrix: on a CPU calls cost more there than arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

SMALL = 1 << 14
"""Elements up to which tensors of one shape are worked on together."""
_ROOM = 1 << 20
"""Elements of such a matrix at most: it is there for a moment."""
PLAIN = (Tensor, torch.nn.Parameter)
"""Types of tensors that are all here."""


def batches(tensors: Sequence[Tensor]) -> list[list[int]]:
    """Places of small tensors of one shape and dtype together; of the others together too, each to be by itself."""
    found: dict[Any, list[int]] = {}
    for place, tensor in enumerate(tensors):
        found.setdefault((type(tensor), tensor.shape, tensor.dtype), []).append(place)
    made: list[list[int]] = []
    large: list[int] = []
    for (kind, shape, _), places in found.items():
        size = shape.numel()
        if size > SMALL or kind not in PLAIN:
            large += places
            continue
        most = max(_ROOM // max(size, 1), 1)
        made += [places[start : start + most] for start in range(0, len(places), most)]
    return [*made, large] if large else made


def are_small(batch: Sequence[Tensor]) -> bool:
    """Whether tensors that `batches` has put together may be the rows of a matrix."""
    return batch[0].numel() <= SMALL and type(batch[0]) in PLAIN


def rows(batch: Sequence[Tensor]) -> Tensor:
    """Small tensors of one batch as the rows of a matrix."""
    # Strided weights keep their strides in a stack, and are copied once more.
    return torch.stack(list(batch)).reshape(len(batch), batch[0].numel())


def put_rows_(batch: Sequence[Tensor], matrix: Tensor) -> None:
    """Write the rows of a matrix into the tensors of one batch."""
    torch._foreach_copy_(list(batch), list(matrix.view(len(batch), *batch[0].shape).unbind()))


def norms_here(tensors: Sequence[Tensor], order: float = 2) -> Tensor:
    """The norm of each tensor, as a vector; in double precision where their dtypes differ."""
    places: list[int] = []
    parts: list[Tensor] = []
    for some in batches(tensors):
        batch = [tensors[i] for i in some]
        if len(batch) > 1 and are_small(batch):
            parts.append(torch.linalg.vector_norm(rows(batch), order, dim=1))
        else:
            parts += [one[None] for one in torch._foreach_norm(batch, order)]
        places += some
    alike = len({part.dtype for part in parts}) == 1
    joined = torch.cat(parts if alike else [part.double() for part in parts])
    if all(place == i for i, place in enumerate(places)):
        return joined
    found = torch.empty_like(joined)
    found[places] = joined
    return found
