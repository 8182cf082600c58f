"""From references and masks, which are values, to the tensors that a hook reads."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchdecay.errors import ApplyError
from torchdecay.optimizers.gradients import wide
from torchdecay.plans.names import canonical_keys
from torchdecay.plans.references import (
    Average,
    Bound,
    BoundMask,
    File,
    Filled,
    Initial,
    Mask,
    Reference,
    SpareRows,
    Tensors,
)
from torchdecay.plans.tensor_files import read_tensors
from torchdecay.sharding import beside, cut_like, is_dtensor, like, local, share_memory, whole
from torchdecay.text import nearest, repr_quoted

Bindings = Mapping[str, Mapping[str, Tensor]]


def reference_tensors(
    reference: Reference | None, names: list[str], params: list[Tensor], bind: Bindings
) -> list[Tensor | None]:
    """The tensor that each parameter is pulled toward, on its device and in its dtype; None is 0."""
    if reference is None:
        return [None] * len(params)
    if isinstance(reference, Average):
        # Beside low precision in float32: in its own an average would not move.
        return [wide(param.detach()).clone() for param in params]
    if isinstance(reference, Filled):
        return [torch.full_like(param.detach(), reference.number) for param in params]
    if isinstance(reference, Initial):
        return [param.detach().clone() for param in params]
    source = _source(reference, bind, cut=all(map(is_dtensor, params)))
    found: list[Tensor | None] = []
    for name, param in zip(names, params, strict=True):
        tensor = _tensor(source, name, param, "reference")
        if tensor is not None and tensor.shape != param.shape:
            raise ApplyError(
                f"the reference {reference!r} has {repr_quoted(name)} of shape {tuple(tensor.shape)}, "
                f"the parameter is of shape {tuple(param.shape)}.",
                "A pull needs a reference of the same shape.",
                "Leave it out of the reference (it is then pulled toward 0) or spare it with a rule.",
            )
        found.append(None if tensor is None else _held(tensor, param))
    if all(tensor is None for tensor in found):
        raise ApplyError(
            f"the reference {reference!r} has none of the parameters that are pulled toward it.",
            f"It has {', '.join(list(source)[:3]) or 'nothing'}; the plan has {', '.join(names[:3])}.",
            "Name its tensors as the model names its parameters.",
        )
    return found


def _held(tensor: Tensor, param: Tensor) -> Tensor:
    if is_dtensor(param) and not is_dtensor(tensor):
        # Cut first: of a file that is mapped into memory only these entries are read.
        part = cut_like(tensor.detach(), param).to(device=param.device, dtype=param.dtype)
        is_view = part.untyped_storage().data_ptr() == local(tensor).untyped_storage().data_ptr()
        return like(part.clone() if is_view else part, param)
    held = tensor.detach().to(device=param.device, dtype=param.dtype)
    # model.state_dict() holds the weights themselves: such a reference would move along with what it pulls.
    return beside(held.clone() if share_memory(held, param) else held, param)


def _source(reference: Reference, bind: Bindings, *, cut: bool) -> Mapping[str, Tensor]:
    if isinstance(reference, Tensors):
        source = reference.tensors
    elif isinstance(reference, File):
        source = read_tensors(Path(reference.path), sha256=reference.sha256, mapped=cut)
    elif isinstance(reference, Bound):
        source = _bound(reference.name, bind, "reference")
    else:
        raise ApplyError(f"the reference {reference!r} was not saved with the plan, so it can't be read back.")
    return {short: source[name] for name, short in canonical_keys(source).items()}


def _bound(name: str, bind: Bindings, what: str) -> Mapping[str, Tensor]:
    if name not in bind:
        raise ApplyError(
            f"the {what} {repr_quoted(name)} is not bound.",
            fix=f"Pass bind={{{name!r}: model_state_dict}} to attach.",
        )
    bound = bind[name]
    if not isinstance(bound, Mapping):
        raise ApplyError(
            f"the {what} {repr_quoted(name)} is bound to a {type(bound).__name__}.",
            fix=f"Pass tensors by the names of parameters: bind={{{name!r}: {{parameter name: tensor}}}}.",
        )
    return bound


def _tensor(source: Mapping[str, Any], name: str, param: Tensor, what: str) -> Tensor | None:
    tensor = source.get(name)
    if tensor is None or isinstance(tensor, Tensor):
        return tensor
    raise ApplyError(
        f"the {what} for {repr_quoted(name)} is no tensor: it is of type {type(tensor).__name__}.",
        fix=f"Give a torch.Tensor of shape {tuple(param.shape)}.",
    )


def mask_tensors(mask: Mask | None, names: list[str], params: list[Tensor], bind: Bindings) -> list[Tensor | None]:
    """For each parameter a tensor that broadcasts to its shape; None is all.

    One of bools is True for what takes part; one of numbers, at least 0, is what the pull is multiplied by.
    """
    if mask is None:
        return [None] * len(params)
    if isinstance(mask, SpareRows):
        return [_row_mask(mask, name, param) for name, param in zip(names, params, strict=True)]
    if not isinstance(mask, BoundMask):
        raise ApplyError(f"the mask {mask!r} was not saved with the plan, so it can't be read back.")
    bound = _bound(mask.name, bind, "mask")
    source = {short: bound[name] for name, short in canonical_keys(bound).items()}
    if not any(name in source for name in names):
        raise ApplyError(
            f"the mask {mask!r} has none of the parameters that it is for.",
            f"It has {', '.join(list(source)[:3]) or 'nothing'}; the plan has {', '.join(names[:3])}, "
            "which would be pulled everywhere.",
            "Name its tensors as the model names its parameters.",
        )
    found: list[Tensor | None] = []
    for name, param in zip(names, params, strict=True):
        tensor = _tensor(source, name, param, "mask")
        kinds = (torch.bool, torch.bfloat16, torch.float16, torch.float32, torch.float64)
        if tensor is not None and (tensor.dtype not in kinds or tensor.shape != param.shape):
            raise ApplyError(
                f"the mask for {repr_quoted(name)} is of shape {tuple(tensor.shape)} and dtype {tensor.dtype}.",
                fix=f"Give a bool tensor of shape {tuple(param.shape)}, True takes part; or a float one, from 0 on.",
            )
        found.append(None if tensor is None else _factors(tensor.detach(), name, param))
    return found


def _factors(tensor: Tensor, name: str, param: Tensor) -> Tensor:
    """A mask beside its parameter, in its precision where it is of numbers."""
    if tensor.dtype is not torch.bool:
        if tensor.numel() and not bool(whole((tensor >= 0).all() & torch.isfinite(tensor).all())):
            raise ApplyError(
                f"the mask for {repr_quoted(name)} has numbers below 0, or none that are finite.",
                "Below 0 the weights would be pushed away, and grow without end.",
                "Give numbers from 0 on; a Fisher information is one: squares of gradients.",
            )
        tensor = tensor.to(wide(param.detach()).dtype.to_real())
    return beside(tensor.to(param.device), param)


def check_masks(masks: Iterable[Mask | None], known: Collection[str], bind: Bindings) -> None:
    """Refuse a mask that is bound for a parameter that is not among those that are `known` by name."""
    for mask in {mask.name: mask for mask in masks if isinstance(mask, BoundMask)}.values():
        bound = _bound(mask.name, bind, "mask") if mask.name in bind else {}
        for name in canonical_keys(bound).values():
            if name not in known:
                raise ApplyError(
                    f"the mask {mask!r} is bound for {repr_quoted(name)}, and there is no such parameter.",
                    "A parameter without a mask is pulled everywhere.",
                    nearest(name, known),
                )


def _row_mask(mask: SpareRows, name: str, param: Tensor) -> Tensor:
    rows = param.shape[0] if param.dim() else 0
    beyond = [row for row in mask.rows if row >= rows]
    if beyond:
        raise ApplyError(
            f"{mask!r} spares row {beyond[0]} of {repr_quoted(name)}, which has {rows} rows.",
            fix="Give the mask to a rule that matches only the tensor that has this row.",
        )
    keep = torch.ones(rows, dtype=torch.bool, device=param.device)
    keep[list(mask.rows)] = False
    keep = keep.reshape(rows, *(1,) * (param.dim() - 1))
    return beside(keep.expand(param.shape), param) if is_dtensor(param) else keep


def digest(tensors: list[Tensor | None]) -> str:
    """SHA-256 over the bytes of the tensors, so that a resumed run can tell whether its reference is the same."""
    found = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            part = local(tensor).detach().cpu().contiguous()
            found.update((ctypes.c_char * part.nbytes).from_address(part.data_ptr()) if part.nbytes else b"")
    return found.hexdigest()
