"""DTensors, on whose numbers all ranks agree and which have constants cut alike; and tensors made to stay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from torchdecay.optimizers.gradients import wide


def whole(tensor: Tensor) -> Tensor:
    """The tensor, gathered if it is a DTensor.

    A norm or a sum of a DTensor is each rank's part until it is gathered, and `float` would read that part.
    """
    gather: Any = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


@contextmanager
def lasting() -> Iterator[None]:
    """Of what is made here to stay: in inference mode it could never be written to outside of it."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def norm(tensor: Tensor, dims: tuple[int, ...] | None = None) -> Tensor:
    """‖·‖ in float64, where the device has it: in float32 squares of 1e20 are infinite, and those of 1e-30 are 0.

    Args:
        tensor: the tensor.
        dims: the dimensions to take it over, which stay, with size 1; None is the norm of all, without dimensions.
    """
    own = wide(tensor.detach())
    kept = dims is not None
    if own.device.type == "cpu" and own.numel():
        # Double precision would take twelve times as long, and to ask whether it is needed costs nothing here.
        found = whole(torch.linalg.vector_norm(own, dim=dims, keepdim=kept)).double()
        if not ((found == 0) | found.isinf()).any():
            return found
        if not 0 < (largest := whole(own.abs().max()).double()) < math.inf:
            return found
        own, scale = own / largest, largest
    else:
        scale = torch.ones((), device=own.device)
    exact = torch.complex128 if own.is_complex() else torch.float64
    wider = None if own.device.type == "mps" else exact
    return whole(torch.linalg.vector_norm(own, dim=dims, keepdim=kept, dtype=wider)) * scale


def beside_slices(numbers: Tensor, param: Tensor) -> Tensor:
    """Numbers of a tensor's slices in its own precision, and beside a DTensor, which mixes with no other, one of them.

    A single number, without dimensions, mixes with all.
    """
    if numbers.dim() == 0:
        return numbers
    numbers = numbers.to(wide(param).dtype.to_real())
    mesh: Any = getattr(param, "device_mesh", None)
    if mesh is None:
        return numbers
    from torch.distributed.tensor import DTensor, Replicate

    made: Tensor = DTensor.from_local(numbers, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return made


def share_memory(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors, or the parts of them that are here, lie in the same memory."""
    here = [one.to_local() if hasattr(one, "to_local") else one for one in (left, right)]
    if any(one.numel() == 0 for one in here):
        return False
    first, second = (one.untyped_storage().data_ptr() for one in here)
    return bool(first == second)


def number(tensor: Tensor) -> float:
    """A 0-d tensor as a float, the same on every rank."""
    return float(whole(tensor))


def beside(constant: Tensor, param: Tensor) -> Tensor:
    """A constant of the parameter's shape, cut over the ranks as the parameter is, or whole if that is."""
    mesh: Any = getattr(param, "device_mesh", None)
    if mesh is None:
        return whole(constant)
    if hasattr(constant, "device_mesh"):
        return constant
    from torch.distributed.tensor import distribute_tensor

    placements: Any = param.placements  # type: ignore[attr-defined]
    return distribute_tensor(constant, mesh, placements)
