"""The same few elements of tensors that belong together: all of a small tensor, a spread of runs of a large one."""

from __future__ import annotations

import torch
from torch import Tensor

from torchdecay.observe.verify.borrowing import local

RUN = 256
"""Elements of each run: long enough to be read quickly, short enough that rows of an embedding are hit fairly."""


def sampled(tensor: Tensor, most: int | None) -> Tensor:
    """Elements of this process's part of a tensor, in one dimension; a view where that can be.

    Tensors of one shape give elements at the same places, whatever their memory looks like.

    Args:
        tensor: of any shape.
        most: about how many elements, at least `RUN`; None is all.
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
