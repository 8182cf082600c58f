"""Small tensors in the place of large ones: who holds the large one sees the small one until it is given back.

What is lent is `.data`, so that parameters stay the objects that optimizers, hooks and plans know them by. Device
and dtype never change: torch would drop a parameter's gradient accumulator, and with it the hooks of DDP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from torchdecay.errors import ApplyError
from torchdecay.sharding import is_dtensor, local

_LONGEST = {1: 64, 2: 8, 3: 4}
_WHOLE = 1 << 16
"""Tensors of no parameter's shape up to this many elements are lent whole: tables and counters keep their shape."""


def small_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of the tensor that is lent: as many dimensions, each cut to a few entries."""
    longest = _LONGEST.get(len(shape), 3)
    return tuple(min(size, longest) for size in shape)


def obstacle(tensor: Tensor) -> str:
    """Why nothing can be measured on a tensor, or an empty string."""
    if is_lazy(tensor):
        return "not materialized yet"
    if local(tensor).is_meta:
        return "on the meta device"
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return f"of dtype {tensor.dtype}".replace("torch.", "")
    return "" if tensor.numel() and local(tensor).numel() else "empty"


def refuse_unknown(tensor: Tensor, what: str) -> None:
    """Refuse what can't be lent.

    Raises:
        ApplyError: a tensor subclass that wraps others in a way not known here, a sparse layout, or not a leaf.
    """
    wraps: bool = is_traceable_wrapper_subclass(tensor)
    if wraps and not is_dtensor(tensor):
        why = f"of type {type(tensor).__name__}, which keeps its numbers in other tensors"
    elif tensor.layout is not torch.strided:
        why = f"of layout {tensor.layout}"
    elif not tensor.is_leaf:
        why = "not a leaf of the autograd graph"
    else:
        return
    raise ApplyError(
        f"{what} is {why}.",
        "A small tensor can't take its place, so a probe would move the real weights.",
        "Verify an optimizer of the same class and options over plain parameters.",
    )


def wrapped(part: Tensor, like: Tensor) -> Tensor:
    """`part` as a tensor of the type of `like`: a DTensor with the same placements where that is one."""
    if not is_dtensor(like):
        return part
    dtensor: Any = like
    made: Tensor = type(dtensor.data).from_local(part, dtensor.device_mesh, dtensor.placements, run_check=False)
    return made


class Loan:
    """One tensor that holds small data until `give_back`.

    Args:
        tensor: who is lent to.
        part: what is lent, of the tensor's device and dtype.
    """

    def __init__(self, tensor: Tensor, part: Tensor) -> None:
        self.tensor = tensor
        self._lent = wrapped(part, tensor)
        self._pointer = part.data_ptr()
        self._own = tensor.data
        self._own_parts = _parts(tensor)
        self._has_parts = bool(self._own_parts)

    def hand_out(self) -> None:
        """Lend, or lend again after the optimizer put other data in its place."""
        _assign(self.tensor, self._lent, _parts(self._lent))

    def is_out(self) -> bool:
        """Whether the tensor still holds what was lent."""
        # Asked of every parameter after every step, so the common case comes first.
        part = local(self.tensor) if self._has_parts else self.tensor
        return part.data_ptr() == self._pointer

    def give_back(self) -> None:
        """The tensor holds its own data again."""
        _assign(self.tensor, self._own, self._own_parts)


def sample_of(tensor: Tensor, *, corner: bool) -> Tensor:
    """A small copy of a tensor that is no parameter: its corner, also where it is large, else the whole."""
    part = local(tensor).detach()
    if corner or part.numel() > _WHOLE:
        for dim, size in enumerate(small_shape(part.shape)):
            part = part.narrow(dim, 0, size)
    return part.clone(memory_format=torch.contiguous_format)


def _parts(tensor: Any) -> dict[str, Any]:
    """What a DTensor keeps beside its data."""
    return {"_local_tensor": tensor._local_tensor, "_spec": tensor._spec} if is_dtensor(tensor) else {}


def _assign(tensor: Tensor, data: Tensor, parts: dict[str, Any]) -> None:
    tensor.data = data
    for name, value in parts.items():
        setattr(tensor, name, value)
