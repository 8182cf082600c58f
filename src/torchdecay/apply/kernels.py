"""The arithmetic on lists of tensors: one pull over many parameters, in as few passes as torch allows.

Every kernel takes tensors of one device, dtype and tensor type (see `buckets`) and one amount for each, changes them
in place where its name ends in an underscore, and is tested against the definitions in
`torchdecay.plan.regularizers`. An amount is a float, a 0-d tensor, or a tensor of the parameter's shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Parameter

from torchdecay.apply.work import Amount
from torchdecay.plan.regularizers import L1, L2, Regularizer

Tensors = Sequence[Tensor]
Optional = Sequence[Tensor | None]
Amounts = Sequence[Amount]

_CHUNK = 1 << 16
"""Elements per chunk of a kernel of several passes, so that all but the first find their input in cache."""


def buckets(params: Iterable[Tensor]) -> list[list[int]]:
    """Indices of the parameters, grouped so that each group may go through one foreach kernel."""
    found: dict[tuple[object, ...], list[int]] = {}
    for index, param in enumerate(params):
        found.setdefault((param.device, param.dtype, type(param)), []).append(index)
    return list(found.values())


def explicit_(params: Tensors, regularizer: Regularizer, amounts: Amounts, references: Optional) -> None:
    """θ ← θ − amount·∇R(θ − ref), ref None being 0."""
    if isinstance(regularizer, L2):
        _shrink_(params, amounts, references)
        return
    for param, amount, reference in zip(params, amounts, references, strict=True):

        def pull_(p: Tensor, *ref: Tensor, amount: Amount = amount) -> None:
            p.sub_(regularizer.gradient(p - ref[0] if ref else p).mul(amount))

        _in_parts(pull_, regularizer, param, () if reference is None else (reference,))


def proximal_(params: Tensors, regularizer: Regularizer, taus: Amounts, references: Optional) -> None:
    """θ ← ref + prox of tau·R at θ − ref."""
    plain = all(reference is None for reference in references)
    if plain and isinstance(regularizer, L2) and _is_one_number(taus):
        torch._foreach_div_(list(params), 1 + taus[0])
        return
    for param, tau, reference in zip(params, taus, references, strict=True):
        elementwise = isinstance(tau, Tensor) and tau.dim() > 0
        others = tuple(one for one in (reference, tau if elementwise else None) if isinstance(one, Tensor))

        def step_(
            p: Tensor, *rest: Tensor, tau: Amount = tau, pulled: bool = reference is not None, own: bool = elementwise
        ) -> None:
            threshold = rest[-1] if own else tau
            if isinstance(regularizer, L1) and not pulled and isinstance(threshold, float) and not p.is_complex():
                torch.ops.aten.softshrink.out(p, threshold, out=p)
            elif pulled:
                p.copy_(regularizer.prox(p - rest[0], threshold) + rest[0])
            else:
                p.copy_(regularizer.prox(p, threshold))

        _in_parts(step_, regularizer, param, others)


def cautious_(
    param: Tensor, amount: Amount, direction: Callable[..., Tensor], sources: Tensors, *, spare_zeros: bool
) -> None:
    """θ ← θ − amount·1[u⊙θ ≥ 0]⊙θ, u being `direction` of the sources; > in place of ≥ when zeros are spared."""

    def pull_(p: Tensor, *parts: Tensor) -> None:
        agreement = direction(*parts) * p
        mask = (agreement > 0) if spare_zeros else (agreement >= 0)
        if isinstance(amount, Tensor):
            p.sub_(mask * p * amount)
        else:
            p.addcmul_(p, mask.to(p.dtype), value=-amount)

    _in_parts(pull_, L2(), param, tuple(sources))


def coupled(
    grads: Tensors, params: Tensors, regularizer: Regularizer, amounts: Amounts, references: Optional
) -> list[Tensor]:
    """The sums g + amount·∇R(θ − ref) as new tensors; the gradients that were given are not touched."""
    if all(reference is None for reference in references):
        sources = list(params)
    else:
        sources = [p if ref is None else p - ref for p, ref in zip(params, references, strict=True)]
    directions = sources if isinstance(regularizer, L2) else [regularizer.gradient(one) for one in sources]
    if _is_one_number(amounts) and not isinstance(amounts[0], Tensor):
        return list(torch._foreach_add(list(grads), directions, alpha=amounts[0]))
    scaled = [direction * amount for direction, amount in zip(directions, amounts, strict=True)]
    return list(torch._foreach_add(list(grads), scaled))


@contextmanager
def masked(params: Tensors, masks: Optional) -> Iterator[None]:
    """Whatever happens inside, entries whose mask is False come out as they went in."""
    kept = [(p, mask, p.clone()) for p, mask in zip(params, masks, strict=True) if mask is not None]
    try:
        yield
    finally:
        for param, mask, before in kept:
            param.copy_(torch.where(mask, param, before))


def _shrink_(params: Tensors, amounts: Amounts, references: Optional) -> None:
    toward = [i for i, reference in enumerate(references) if reference is not None]
    free = [i for i, reference in enumerate(references) if reference is None]
    if free:
        some = [params[i] for i in free]
        if _is_one_number([amounts[i] for i in free]):
            torch._foreach_mul_(some, 1 - amounts[free[0]])
        else:
            for index in free:
                params[index].mul_(1 - amounts[index])
    if toward:
        some, refs = [params[i] for i in toward], [r for r in references if r is not None]
        first = amounts[toward[0]]
        if _is_one_number([amounts[i] for i in toward]) and not isinstance(first, Tensor):
            torch._foreach_lerp_(some, refs, first)
        else:
            for index, ref in zip(toward, refs, strict=True):
                amount = amounts[index]
                params[index].lerp_(ref, amount.to(ref) if isinstance(amount, Tensor) else amount)


def _is_one_number(amounts: Amounts) -> bool:
    first = amounts[0]
    if isinstance(first, Tensor):
        return first.dim() == 0 and all(amount is first for amount in amounts)
    return all(not isinstance(amount, Tensor) and amount == first for amount in amounts)


def _in_parts(kernel: Callable[..., None], regularizer: Regularizer, param: Tensor, others: Tensors) -> None:
    """Run an in-place kernel over matching flat parts that stay in cache; over the whole where that can't be."""
    plain = type(param) in (Tensor, Parameter) and param.numel() > _CHUNK and regularizer.elementwise
    if not plain or not all(one.is_contiguous() and one.shape == param.shape for one in (param, *others)):
        kernel(param, *others)
        return
    flat = [one.detach().view(-1) for one in (param, *others)]
    for start in range(0, param.numel(), _CHUNK):
        kernel(*(one[start : start + _CHUNK] for one in flat))
