"""Elements of tensors that belong together, and rows of sums over them.

All of a small tensor, a spread of runs of a large one; sums are added up over the ranks that hold parts, and read
from the device at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torchdecay.observe.verify.borrowing import local

RUN = 256
"""Elements of each run: long enough to be read quickly, short enough that rows of an embedding are hit fairly."""


def sampled(tensor: Tensor, most: int | None) -> Tensor:
    """Elements of this process's part of a tensor, in one dimension; a view where that can be.

    Tensors of one shape give elements at the same places, whatever their memory looks like: about `most`, None is all.
    """
    part = local(tensor).detach()
    if part.is_complex():
        part = torch.view_as_real(part)
    flat = part.reshape(-1)
    count = flat.numel()
    if most is None or count <= most:
        return flat
    runs = max(1, most // RUN)
    # The last run ends within the tensor, because a run is shorter than the distance between two.
    return flat.as_strided((runs, RUN), (count // runs, 1), flat.storage_offset()).reshape(-1)


def wide(tensor: Tensor) -> Tensor:
    """In float64, where the device has it."""
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def over_ranks(rows: Sequence[Tensor], params: Sequence[Tensor]) -> list[list[float]]:
    """The rows as numbers; those of a DTensor are summed over every mesh dimension that it is cut along.

    Every rank has to call this with the same tensors in the same order.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for place, (row, param) in enumerate(zip(rows, params, strict=True)):
        alike.setdefault((row.device, row.dtype, *_cuts(param)), []).append(place)
    told: list[list[float]] = [[] for _ in rows]
    for (_, _, *cuts), places in alike.items():
        stacked = torch.stack([rows[place] for place in places])
        for mesh, dim in cuts:
            torch.distributed.all_reduce(stacked, group=mesh.get_group(dim))
        for place, numbers in zip(places, stacked.tolist(), strict=True):
            told[place] = numbers
    return told


def aligned(gradient: Tensor, param: Tensor) -> Tensor:
    """The gradient cut over the ranks as its parameter is."""
    wanted: Any = getattr(param, "placements", None)
    held: Any = getattr(gradient, "placements", None)
    if wanted is None or held is None or wanted == held:
        return gradient
    moved: Tensor = gradient.redistribute(param.device_mesh, wanted)  # type: ignore[attr-defined]
    return moved


def _cuts(param: Tensor) -> list[tuple[Any, int]]:
    mesh: Any = getattr(param, "device_mesh", None)
    placements: Any = getattr(param, "placements", ())
    return [(mesh, dim) for dim, placement in enumerate(placements) if not placement.is_replicate()]
