"""DTensors: numbers on which all ranks agree, and constants that are cut like the weight beside them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor, gathered if it is a DTensor.

    A norm or a sum of a DTensor is each rank's part until it is gathered, and `float` would read that part.
    """
    gather: Any = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def norm(tensor: Tensor) -> Tensor:
    """‖·‖ in double precision: squares of large numbers overflow in float32, those of small ones are lost in bf16."""
    dtype = torch.complex128 if tensor.is_complex() else torch.float64
    return whole(torch.linalg.vector_norm(tensor.detach(), dtype=dtype))


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
