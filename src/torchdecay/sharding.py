"""Tensors of which each process holds a part: what is here of one, and numbers of the whole.

Of a DTensor `local` is what this process has. Sums over parts are added up over every dimension of the mesh that the
tensor is cut along; those who hold the same part count once. What says "over the ranks" has to be called by all of
them, in the same order. Any other tensor is its own whole, and nothing is asked of anybody.
"""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from torchdecay.batches import PLAIN, norms_here
from torchdecay.errors import ApplyError


def is_dtensor(tensor: Tensor) -> bool:
    """Whether it is one, without an import of what nobody has imported."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def is_flat_part(tensor: Tensor) -> bool:
    """Whether it is a part that FSDP1 has made: a vector that does not know what it is a part of."""
    return bool(getattr(tensor, "_fsdp_flattened", False)) or is_flat(tensor)


def is_flat(tensor: Tensor) -> bool:
    """Whether it is FSDP1's one vector for many parameters, as with use_orig_params=False."""
    return bool(getattr(tensor, "_is_flat_param", False))


def local(tensor: Tensor) -> Tensor:
    """The tensor itself, or this process's part of a DTensor."""
    if type(tensor) in PLAIN:
        return tensor
    part: Tensor = tensor._local_tensor if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]
    return part


def like(part: Tensor, other: Tensor) -> Tensor:
    """A part of another tensor as a tensor of its kind: a DTensor of its shape, cut as it is, where that is one."""
    if not is_dtensor(other):
        return part
    whole: Any = other
    made: Tensor = type(whole.data).from_local(
        part, whole.device_mesh, whole.placements, run_check=False, shape=whole.shape, stride=whole.stride()
    )
    return made


def whole(tensor: Tensor) -> Tensor:
    """The tensor, gathered over the ranks if it is a DTensor."""
    if not is_dtensor(tensor):
        return tensor
    with _answered():
        gathered: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return gathered


def aligned(gradient: Tensor, param: Tensor) -> Tensor:
    """The gradient cut over the ranks as its parameter is, what is still to be added up being added up."""
    if type(gradient) in PLAIN or not is_dtensor(gradient) or gradient.placements == param.placements:  # type: ignore[attr-defined]
        return gradient
    with _answered():
        moved: Tensor = gradient.redistribute(param.device_mesh, param.placements)  # type: ignore[attr-defined]
    return moved


_FLAT: MutableMapping[Tensor, Any] = WeakTensorKeyDictionary()
"""Of parts that FSDP1 has made the processes that hold the others: the model knows them, the parts don't."""


def tell_flat(module: Any) -> None:
    """Learn which processes hold the other parts of the parameters of a module that FSDP1 wraps."""
    flat = getattr(module._handle, "flat_param", None)
    for part in () if flat is None else (flat, *(getattr(flat, "_params", None) or ())):
        _FLAT[part] = module._handle.process_group


def left_behind(params: Iterable[Tensor], *, are_idle: bool = False) -> list[Tensor]:
    """Parameters in whose place sharding has put others, so that nothing trains them any more.

    They are whole and no module has them, and a module has a DTensor of their shape that no optimizer steps; of those
    that are known to be idle, without a gradient when they are stepped, also one that another optimizer steps. Looks
    through all that the garbage collector knows, once there are processes to shard over.
    """
    module = sys.modules.get("torch.distributed.tensor")
    if module is None or not are_several():
        return []
    whole_ones = [one for one in params if one.requires_grad and type(one) in PLAIN and not is_flat_part(one)]
    if not whole_ones:
        return []
    owned, stepped = dict[int, Tensor](), set[int]()
    for one in gc.get_objects():
        bases = type(one).__mro__
        if torch.nn.Module in bases:
            owned |= {id(param): param for param in vars(one).get("_parameters", {}).values() if param is not None}
        elif torch.optim.Optimizer in bases and not are_idle:
            stepped |= {id(param) for group in vars(one).get("param_groups", ()) for param in group["params"]}
    shapes = {param.shape for key, param in owned.items() if key not in stepped and isinstance(param, module.DTensor)}
    return [one for one in whole_ones if id(one) not in owned and one.shape in shapes]


def are_several() -> bool:
    """Whether there are processes that may each hold a part."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def cuts(tensor: Tensor) -> list[Any]:
    """The groups of processes over which a tensor is cut: one for each dimension of a mesh, strided shards included."""
    if is_flat_part(tensor):
        if tensor not in _FLAT:
            raise ApplyError(
                "a weight is a part that FSDP1 has cut, and who holds the others is not known.",
                "The model that it wraps says so.",
                "Pass model=..., or wrap with fully_shard (FSDP2).",
            )
        return [_FLAT[tensor]]
    if not is_dtensor(tensor):
        return []
    whole: Any = tensor
    return [whole.device_mesh.get_group(dim) for dim, _ in _cuts(whole)]


def cuts_along(tensor: Tensor) -> set[int]:
    """The dimensions of a DTensor that it is cut along."""
    return {how.dim % tensor.dim() for _, how in _cuts(tensor)}


def _cuts(tensor: Any) -> list[tuple[int, Any]]:
    """The dimensions of the mesh over which a DTensor is cut, each with how."""
    mesh = tensor.device_mesh
    return [(at, how) for at, how in enumerate(tensor.placements) if not how.is_replicate() and mesh.size(at) > 1]


@contextmanager
def _answered() -> Iterator[None]:
    """Around what all ranks have to come to; in words, where one does not."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ApplyError(
            f"the other processes could not be asked for their parts of a weight: {error}",
            "One of them has ended, or does something else.",
            "What the first to fail has said is the cause. Then go on from the last checkpoint.",
        ) from error


def over_ranks(part: Tensor, of: Tensor, how: Literal["sum", "max"] = "sum") -> Tensor:
    """A number of what is here of a tensor → that of the whole, over the ranks."""
    for group in cuts(of):
        part = over_group(part, group, how)
    return part


def over_group(part: Tensor, group: Any, how: Literal["sum", "max"] = "sum") -> Tensor:
    """Numbers that each process of a group has → those of all of them; as they are where there is no group."""
    if group is None:
        return part
    part = part.clone()
    with _answered():
        torch.distributed.all_reduce(part, _operation(how), group=group)
    return part


def _operation(how: Literal["sum", "max"]) -> Any:
    return torch.distributed.ReduceOp.SUM if how == "sum" else torch.distributed.ReduceOp.MAX


def all_over_ranks(parts: Tensor, of: Sequence[Tensor], how: Literal["sum", "max"] = "sum") -> Tensor:
    """Numbers of what is here of some tensors, a column for each → those of the wholes.

    One reduction for all that are cut alike, however many they are; and nothing where no process has a part.
    """
    if not are_several():
        return parts
    alike: dict[tuple[Any, ...], list[int]] = {}
    for index, tensor in enumerate(of):
        if groups := tuple(cuts(tensor)):
            alike.setdefault(groups, []).append(index)
    for groups, indices in alike.items():
        some = parts[..., indices].contiguous()
        with _answered():
            for group in groups:
                torch.distributed.all_reduce(some, _operation(how), group=group)
        parts = parts.clone()
        parts[..., indices] = some
    return parts


def sums_together(parts: Sequence[Tensor], of: Sequence[Tensor]) -> list[Tensor]:
    """Sums over what is here of some tensors, of any shapes, → those over the wholes; a reduction for all cut alike."""
    made, alike = list(parts), dict[tuple[Any, ...], list[int]]()
    for index, (part, tensor) in enumerate(zip(parts, of, strict=True)):
        alike.setdefault((part.dtype, part.device, *cuts(tensor)), []).append(index)
    for indices in alike.values():
        joined = over_ranks(torch.cat([made[i].flatten() for i in indices]), of[indices[0]])
        pieces = torch.split(joined, [made[i].numel() for i in indices])
        for i, piece in zip(indices, pieces, strict=True):
            made[i] = piece.view(made[i].shape)
    return made


@torch.no_grad()
def norms(tensors: Sequence[Tensor], of: Sequence[Tensor] | None = None, also: Tensor | None = None) -> Tensor:
    """`norm` of each of some tensors on one device, as a vector; with `also`, as the first of two rows.

    Args:
        tensors: the tensors, or what is here of each.
        of: what they are parts of, where they are parts.
        also: further numbers of what is here of each, which are added up over the ranks in the same reduction.
    """
    own = list(map(local, tensors))
    own = [one.float() if one.dtype.itemsize < 4 else one for one in own]
    wholes, device = tensors if of is None else of, own[0].device.type
    if device in ("cpu", "mps"):
        # On a CPU double precision would take twelve times as long, and to ask whether it is needed costs nothing.
        here = norms_here(own)
    elif any(one.is_complex() for one in own):
        here = stacked([torch.linalg.vector_norm(one, dtype=_exact(one)) for one in own])
    else:
        here = torch.stack(torch._foreach_norm(own, 2, torch.float64))
    here = here if device == "mps" else here.double()
    rows = here.square()[None] if also is None else torch.stack((here.square(), also.to(here.dtype)))
    added = all_over_ranks(rows, wholes)
    found = here if added is rows else torch.where(added[0] == rows[0], here, added[0].sqrt())
    # In float32 squares of 1e20 are infinite, and those of 1e-30 are 0.
    if device == "cpu" and (odd := ((found == 0) | found.isinf()).nonzero().flatten().tolist()):
        _scale_(found, odd, own, wholes)
    return found if also is None else torch.stack((found, added[1]))


def stacked(numbers: Sequence[Tensor]) -> Tensor:
    """Some numbers as a vector, in the precision that they have, or in double where those differ."""
    alike = len({one.dtype for one in numbers}) == 1
    return torch.stack(list(numbers) if alike else [one.double() for one in numbers])


def _scale_(found: Tensor, odd: list[int], own: Sequence[Tensor], of: Sequence[Tensor]) -> None:
    """‖·‖ of some by way of their largest elements, where squares are infinite or 0; two reductions for all."""
    tops = [own[i].abs().max() if own[i].numel() else own[i].abs().sum() for i in odd]
    largest = all_over_ranks(torch.stack([top.double() for top in tops]), [of[i] for i in odd], "max").tolist()
    pairs = [(i, top) for i, top in zip(odd, largest, strict=True) if 0 < top < math.inf]
    if not pairs:
        return
    here = torch.stack([torch.linalg.vector_norm(own[i] / top, dtype=_exact(own[i])) for i, top in pairs])
    squares = here.square()
    added = all_over_ranks(squares, [of[i] for i, _ in pairs])
    scaled = here if added is squares else torch.where(added == squares, here, added.sqrt())
    found[[i for i, _ in pairs]] = scaled * torch.tensor([top for _, top in pairs], dtype=scaled.dtype)


def _exact(tensor: Tensor) -> torch.dtype:
    return torch.complex128 if tensor.is_complex() else torch.float64


def norm(tensor: Tensor, dims: tuple[int, ...] | None = None) -> Tensor:
    """‖·‖ of the whole in float64, where the device has it: in float32 squares of 1e20 are infinite, of 1e-30 are 0.

    Args:
        tensor: the tensor.
        dims: the dimensions to take it over, which stay, with size 1; None is the norm of all, without dimensions.
    """
    own = local(tensor.detach())
    own, kept, scale = own.float() if own.dtype.itemsize < 4 else own, dims is not None, 1.0
    if own.device.type == "cpu" and tensor.numel():
        # Double precision would take twelve times as long, and to ask whether it is needed costs nothing here.
        found: Tensor = torch.linalg.vector_norm(own, dim=dims, keepdim=kept).double()
        if cuts(tensor):
            found = _added(found.square(), tensor, dims).sqrt()
        if not ((found == 0) | found.isinf()).any():
            return found
        top = own.abs().max() if own.numel() else own.abs().sum()
        largest = float(over_ranks(top.double(), tensor, "max"))
        if not 0 < largest < math.inf:
            return found
        own, scale = own / largest, largest
    dtype = None if own.device.type == "mps" else _exact(own)
    found = torch.linalg.vector_norm(own, dim=dims, keepdim=kept, dtype=dtype)
    return (_added(found.square(), tensor, dims).sqrt() if cuts(tensor) else found) * scale


def sums_of(part: Tensor, tensor: Tensor, dims: tuple[int, ...] | None) -> Tensor:
    """Sums of numbers of what is here of a tensor, over `dims`, or all, → those over the whole."""
    return _added(part.sum() if dims is None else part.sum(dims, keepdim=True), tensor, dims)


def _added(part: Tensor, tensor: Tensor, dims: tuple[int, ...] | None) -> Tensor:
    if dims is not None and is_dtensor(tensor) and cuts(tensor):
        over = {dim % tensor.dim() for dim in dims}
        # Of slices that are not here nothing is here.
        for dim, index in enumerate(places(tensor)):
            if dim not in over:
                shape = [tensor.shape[dim] if at == dim else size for at, size in enumerate(part.shape)]
                part = part.new_zeros(shape).index_copy(dim, index, part)
    return over_ranks(part, tensor)


def slices_of(numbers: Tensor, param: Tensor) -> Tensor:
    """Numbers of a parameter's slices as its part here needs them, in its own precision; a single number as it is."""
    if numbers.dim() == 0:
        return numbers
    if is_dtensor(param):
        for dim, index in enumerate(places(param)):
            if numbers.shape[dim] > 1:
                numbers = numbers.index_select(dim, index)
    own = param.dtype if param.dtype.itemsize >= 4 else torch.float32
    return numbers.to(own.to_real())


def places(tensor: Tensor) -> list[Tensor]:
    """For each dimension of a DTensor, which entries along it are here."""
    from torch.distributed.tensor import DTensor, Replicate

    whole: Any = tensor
    mesh, placements = whole.device_mesh, whole.placements
    found = []
    for dim, size in enumerate(whole.shape):
        index = torch.arange(size, device=local(tensor).device)
        cut = [Replicate() if one.is_replicate() or one.dim % whole.ndim != dim else one for one in placements]
        if any(not one.is_replicate() for one in cut):
            spread = index.reshape([-1 if at == dim else 1 for at in range(whole.ndim)])
            held = DTensor.from_local(spread, mesh, [Replicate()] * mesh.ndim, run_check=False)
            index = held.redistribute(mesh, cut).to_local().reshape(-1)
        found.append(index)
    return found


def cut_like(constant: Tensor, param: Tensor) -> Tensor:
    """What of a whole tensor, the same on every rank, is at the places of a parameter's part here."""
    if not is_dtensor(param):
        return constant
    for dim, index in enumerate(places(param)):
        if len(index) < constant.shape[dim]:
            constant = constant.index_select(dim, index.to(constant.device))
    return constant


def beside(constant: Tensor, param: Tensor) -> Tensor:
    """A constant of the parameter's shape, cut over the ranks as the parameter is, or whole if that is."""
    if not is_dtensor(param):
        return whole(constant)
    one, other = cast(Any, constant), cast(Any, param)
    if is_dtensor(constant) and (one.device_mesh, one.placements) == (other.device_mesh, other.placements):
        return constant
    # Under tensor parallel inside FSDP2 a weight is on one mesh between forward and backward, on two at other times.
    return like(cut_like(whole(constant), param), param)


def share_memory(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors, or the parts of them that are here, lie in the same memory."""
    one, other = local(left), local(right)
    same = one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    return bool(one.numel() and other.numel() and same)
