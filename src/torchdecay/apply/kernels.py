"""The arithmetic on lists of tensors: one pull over many parameters, in as few passes as torch allows.

Every kernel takes tensors of one device, dtype and tensor type (see `buckets`), changes them in place where its
name ends in an underscore, and is tested against the definitions in `torchdecay.plan.regularizers`. Amounts are
floats, or 0-d tensors where the learning rate is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Parameter

from torchdecay.plan.regularizers import L2, Regularizer

Amount = float | Tensor
Tensors = Sequence[Tensor]
Optional = Sequence[Tensor | None]

_CHUNK = 1 << 16
"""Elements per chunk of a kernel of several passes, so that all but the first find their input in cache."""


def buckets(params: Iterable[Tensor]) -> list[list[int]]:
    """Indices of the parameters, grouped so that each group may go through one foreach kernel."""
    found: dict[tuple[object, ...], list[int]] = {}
    for index, param in enumerate(params):
        found.setdefault((param.device, param.dtype, type(param)), []).append(index)
    return list(found.values())


def explicit_(params: Tensors, regularizer: Regularizer, amount: Amount, references: Optional) -> None:
    """θ ← θ − amount·∇R(θ − ref), ref None being 0."""
    if isinstance(regularizer, L2):
        if all(reference is None for reference in references):
            torch._foreach_mul_(list(params), 1 - amount)
            return
        filled = [
            torch.zeros_like(p) if ref is None else ref.to(p)
            for p, ref in zip(params, references, strict=True)
        ]
        torch._foreach_lerp_(list(params), filled, float(amount))
        return
    for param, reference in zip(params, references, strict=True):
        for part, ref, _ in _chunks(param, reference):
            part.sub_(regularizer.gradient(part if ref is None else part - ref).mul(amount))


def proximal_(
    params: Tensors, regularizer: Regularizer, taus: Sequence[Amount], references: Optional
) -> None:
    """θ ← ref + prox of tau·R at θ − ref, one tau for each parameter, elementwise where it is a tensor."""
    for param, reference, tau in zip(params, references, taus, strict=True):
        sizes = tau if isinstance(tau, Tensor) and tau.dim() > 0 else None
        for part, ref, size in _chunks(param, reference, sizes):
            threshold = tau if size is None else size
            moved = regularizer.prox(part if ref is None else part - ref, threshold)
            part.copy_(moved if ref is None else moved + ref)


def coupled(
    grads: Tensors, params: Tensors, regularizer: Regularizer, amount: Amount, references: Optional
) -> list[Tensor]:
    """The sums g + amount·∇R(θ − ref) as new tensors; the gradients that were given are not touched."""
    if all(reference is None for reference in references):
        sources = list(params)
    else:
        sources = [p if ref is None else p - ref.to(p) for p, ref in zip(params, references, strict=True)]
    directions = sources if isinstance(regularizer, L2) else [regularizer.gradient(one) for one in sources]
    if isinstance(amount, Tensor):
        return list(torch._foreach_add(list(grads), torch._foreach_mul(directions, amount)))
    return list(torch._foreach_add(list(grads), directions, alpha=amount))


@contextmanager
def masked(params: Tensors, masks: Optional) -> Iterator[None]:
    """Whatever happens inside, entries whose mask is False come out as they went in."""
    kept = [(p, mask, p.clone()) for p, mask in zip(params, masks, strict=True) if mask is not None]
    yield
    for param, mask, before in kept:
        param.copy_(torch.where(mask, param, before))


def _chunks(
    param: Tensor, reference: Tensor | None, sizes: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
    """Matching flat pieces of the tensors, small enough to stay in cache; whole where views are not possible."""
    if param.numel() <= _CHUNK or not param.is_contiguous() or type(param) not in (Tensor, Parameter):
        yield param, reference, sizes
        return
    flat, *others = (None if one is None else one.reshape(-1) for one in (param, reference, sizes))
    assert flat is not None
    for start in range(0, flat.numel(), _CHUNK):
        end = start + _CHUNK
        ref, size = (None if one is None else one[start:end] for one in others)
        yield flat[start:end], ref, size
