"""The arithmetic on lists of tensors: one pull over many parameters, in as few passes as torch allows.

Every kernel takes tensors of one device, dtype and tensor type (see `buckets`) and one amount for each, changes them
in place where its name ends in an underscore, and is tested against the definitions in
`torchdecay.plans.regularizers`. An amount is a float, a 0-d tensor, or a tensor of the parameter's shape.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from operator import attrgetter, methodcaller
from typing import Any

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from torchdecay.apply.work import Amount
from torchdecay.batches import PLAIN, rows
from torchdecay.plans.regularizers import L1, L2, ElasticNet, Huber, PNorm, Regularizer, Spectral

Tensors = Sequence[Tensor]
Optional = Sequence[Tensor | None]
Amounts = Sequence[Amount]
Columns = Sequence[list[Tensor] | Tensor]
Run = Callable[..., None]
"""How a kernel for one tensor is run: `in_parts`, or compiled (see `torchdecay.apply.compiled`)."""

_CHUNK = 1 << 17
"""Elements per chunk of a kernel of several passes: few enough that all passes but the first find their input in
cache, enough that what a call costs does not show."""


_SMALL = 1 << 12
"""Elements up to which a tensor is copied beside others rather than worked on alone."""


class _Rooms(threading.local):
    def __init__(self) -> None:
        self.by_dtype: dict[torch.dtype, Tensor] = {}


_ROOMS = _Rooms()


def scratch(like: Tensor) -> Tensor | None:
    """Room for one result of a chunk's shape; None where torch has to make its own.

    Memory that is taken and given back for each chunk may go back to the system each time, and then costs several
    times what is computed in it. The room is one chunk for each thread and dtype, and holds nothing after the kernel.
    """
    if torch.compiler.is_compiling() or type(like) is not Tensor or like.device.type != "cpu" or like.numel() > _CHUNK:
        return None
    room = _ROOMS.by_dtype.get(like.dtype)
    if room is None:
        room = _ROOMS.by_dtype[like.dtype] = torch.empty(_CHUNK, dtype=like.dtype)
    return room[: like.numel()].view(like.shape)


def explicit_(
    params: Tensors, regularizer: Regularizer, amounts: Amounts, references: Optional, run: Run | None = None
) -> None:
    """θ ← θ − amount·∇R(θ − ref), ref None being 0."""
    if isinstance(regularizer, L2):
        _shrink_(params, amounts, references)
        return
    if isinstance(regularizer, Spectral) and not any(isinstance(amount, Tensor) for amount in amounts):
        _spectral_(params, regularizer, amounts, references)
        return
    for places, columns in _by_reference(references):
        some, by = [params[i] for i in places], [amounts[i] for i in places]
        over(run or in_parts, _explicit_one_, some, by, columns, regularizer)


_AT_ONCE = 1 << 22
"""Elements of matrices of one shape that are decomposed in one call, which holds as many again several times over."""


def _spectral_(params: Tensors, regularizer: Spectral, amounts: Amounts, references: Optional) -> None:
    """The explicit step of ½σ₁², matrices of one shape together."""
    shapes: dict[tuple[Any, ...], list[int]] = {}
    for index, (param, amount) in enumerate(zip(params, amounts, strict=True)):
        shapes.setdefault((param.shape, amount), []).append(index)
    for (_, amount), alike in shapes.items():
        size = max(1, _AT_ONCE // max(1, params[alike[0]].numel()))
        for start in range(0, len(alike), size):
            some = [params[i] for i in alike[start : start + size]]
            refs = [references[i] for i in alike[start : start + size]]
            off = [p if ref is None else p - ref for p, ref in zip(some, refs, strict=True)]
            torch._foreach_sub_(some, torch._foreach_mul(regularizer.gradients(off), amount))


def proximal_(
    params: Tensors,
    regularizer: Regularizer,
    taus: Amounts,
    references: Optional,
    run: Run | None = None,
    *,
    size: Callable[..., Tensor] | None = None,
    read: Columns = (),
) -> None:
    """θ ← ref + prox of tau·size·R at θ − ref; `size` is worked out of what it has to `read`, None being 1."""
    run = run or in_parts
    if isinstance(regularizer, L2) and all(one is None for one in references) and _is_one_number(taus):
        torch._foreach_div_(list(params), 1 + taus[0])
        return
    for places, others in _by_reference(references):
        some, by = [params[i] for i in places], [taus[i] for i in places]
        if size is not None:
            columns = (*others, *([one[i] for i in places] if isinstance(one, list) else one for one in read))
            over(run, _proximal_sized_one_, some, by, columns, regularizer, size, len(others))
        elif some[0].is_complex() or any(isinstance(tau, Tensor) for tau in by):
            over(run, _proximal_one_, some, by, others, regularizer)
        elif isinstance(regularizer, L1) and not others:
            # A single operation already: cut into parts, or compiled, it would only be called more often.
            over(_at_once, _soften_one_, some, by, others)
        elif isinstance(regularizer, ElasticNet) and _is_one_number(by):
            over(run, _elastic_one_, some, [tau * regularizer.l1 for tau in by], others, 1 + by[0] * regularizer.l2)
        elif isinstance(regularizer, Huber) and _is_one_number(by):
            shares = [tau / (1 + tau) for tau in by]
            over(run, _huber_one_, some, shares, others, (1 + by[0]) * regularizer.delta)
        else:
            over(run, _proximal_one_, some, by, others, regularizer)


def _by_reference(references: Optional) -> list[tuple[list[int], tuple[list[Tensor], ...]]]:
    """Places of those without a reference, and of those with one, each with its column of references."""
    held = [(i, reference) for i, reference in enumerate(references) if reference is not None]
    free = [i for i, reference in enumerate(references) if reference is None]
    found: list[tuple[list[int], tuple[list[Tensor], ...]]] = [(free, ())] if free else []
    return [*found, ([i for i, _ in held], ([one for _, one in held],))] if held else found


def cautious_(
    params: Tensors,
    amounts: Amounts,
    direction: Callable[..., Tensor],
    read: Columns,
    *,
    spare_zeros: bool,
    run: Run | None = None,
) -> None:
    """θ ← θ − amount·1[u⊙θ ≥ 0]⊙θ; > for ≥ when zeros are spared. `direction` makes of `read` the signs of u."""
    over(run or in_parts, _cautious_one_, params, amounts, read, direction, spare_zeros)


def by_power_(p: Tensor, amount: Amount, parts: Tensors, regularizer: PNorm) -> None:
    """θ ← θ/(1 + amount·p·|old|^(p−2)), old being the one part."""
    p.copy_(regularizer.step(p, parts[0], amount))


def _explicit_one_(p: Tensor, amount: Amount, parts: Tensors, regularizer: Regularizer) -> None:
    p.sub_(regularizer.gradient(p - parts[0] if parts else p).mul(amount))


def _proximal_one_(p: Tensor, tau: Amount, parts: Tensors, regularizer: Regularizer) -> None:
    if parts:
        p.sub_(parts[0])
    if isinstance(regularizer, L1) and not p.is_complex():
        _soften_(p, tau)
    else:
        p.copy_(regularizer.prox(p, tau))
    if parts:
        p.add_(parts[0])


def _elastic_one_(p: Tensor, tau: Amount, parts: Tensors, divisor: Amount) -> None:
    if parts:
        p.sub_(parts[0])
    _soften_(p, tau)
    p.div_(divisor)
    if parts:
        p.add_(parts[0])


def _huber_one_(p: Tensor, share: Amount, parts: Tensors, bound: Amount) -> None:
    if parts:
        p.sub_(parts[0])
    step = torch.clamp(p, -bound, bound, out=scratch(p))  # type: ignore[arg-type]
    if isinstance(share, Tensor):
        p.sub_(step * share)
    else:
        p.sub_(step, alpha=share)
    if parts:
        p.add_(parts[0])


def _proximal_sized_one_(
    p: Tensor, tau: Amount, parts: Tensors, regularizer: Regularizer, size: Callable[..., Tensor], others: int
) -> None:
    _proximal_one_(p, size(*parts[others:]).mul_(tau), parts[:others], regularizer)


def _soften_one_(p: Tensor, tau: Amount, parts: Tensors) -> None:
    _soften_(p, tau)


def _soften_(p: Tensor, tau: Amount) -> None:
    """Soft threshold: p ← sign(p)·max(|p| − tau, 0)."""
    if isinstance(tau, Tensor):
        # `clamp` between tensors and `where` take several times as long.
        p.sub_(torch.minimum(torch.maximum(p, -tau), tau))
    else:
        torch.ops.aten.softshrink.out(p, tau, out=p)


def _cautious_one_(
    p: Tensor, amount: Amount, parts: Tensors, direction: Callable[..., Tensor], spare_zeros: bool
) -> None:
    update = direction(*parts)
    # The gradient itself may be the direction, and has to stay what it is.
    agreement = torch.mul(update, p, out=scratch(p)) if any(update is part for part in parts) else update.mul_(p)
    # Ones and zeros as numbers, in place: a mask of bools costs several passes more.
    mask = (agreement.gt_(0) if spare_zeros else agreement.ge_(0)).to(p.dtype)
    if isinstance(amount, Tensor):
        p.sub_(mask * p * amount)
    else:
        p.addcmul_(p, mask, value=-amount)


def coupled(
    grads: Tensors, params: Tensors, regularizer: Regularizer, amounts: Amounts, references: Optional
) -> list[Tensor]:
    """The sums g + amount·∇R(θ − ref) as new tensors; the gradients that were given are not touched."""
    # A graph keeps what it was made of, and the update then writes to the weights.
    own = [p.clone() for p in params] if torch.is_grad_enabled() else params
    sources = [p if ref is None else p - ref.to(p.dtype) for p, ref in zip(own, references, strict=True)]
    directions = sources if isinstance(regularizer, L2) else [regularizer.gradient(one) for one in sources]
    if _is_one_number(amounts) and not isinstance(amounts[0], Tensor):
        return list(torch._foreach_add(list(grads), directions, alpha=amounts[0]))
    tensors = [amount for amount in amounts if isinstance(amount, Tensor)]
    if len(tensors) == len(directions) and not torch.is_grad_enabled():
        scaled = list(torch._foreach_mul(directions, tensors))
    else:
        scaled = [direction * amount for direction, amount in zip(directions, amounts, strict=True)]
    if torch.is_grad_enabled():
        return [grad + one for grad, one in zip(grads, scaled, strict=True)]
    return list(torch._foreach_add(list(grads), scaled))


def masked(params: Tensors, masks: Optional) -> AbstractContextManager[None]:
    """Whatever happens inside, entries whose mask is False come out as they went in."""
    return _NOTHING if all(mask is None for mask in masks) else _masked(params, masks)


_NOTHING = nullcontext()


@contextmanager
def _masked(params: Tensors, masks: Optional) -> Iterator[None]:
    kept = [(p, mask, p.clone()) for p, mask in zip(params, masks, strict=True) if mask is not None]
    try:
        yield
    finally:
        for param, mask, before in kept:
            param.copy_(torch.where(mask, param, before))


def _shrink_(params: Tensors, amounts: Amounts, references: Optional) -> None:
    toward = [i for i, reference in enumerate(references) if reference is not None]
    free = [i for i, reference in enumerate(references) if reference is None] if toward else range(len(params))
    if free:
        some = [params[i] for i in free]
        if _is_one_number([amounts[i] for i in free]):
            torch._foreach_mul_(some, 1 - amounts[free[0]])
        elif not torch.is_grad_enabled() and all(isinstance(amounts[i], float) for i in free):
            torch._foreach_mul_(some, [1 - amounts[i] for i in free])  # type: ignore[misc]
        elif (numbers := _numbers([amounts[i] for i in free])) is not None:
            torch._foreach_mul_(some, list((1 - numbers).unbind()))
        else:
            for index in free:
                params[index].mul_(1 - amounts[index])
    if toward:
        some, refs = [params[i] for i in toward], [r for r in references if r is not None]
        first = amounts[toward[0]]
        if _is_one_number([amounts[i] for i in toward]) and not isinstance(first, Tensor):
            torch._foreach_lerp_(some, refs, first)
        elif (numbers := _numbers([amounts[i] for i in toward])) is not None and {r.dtype for r in refs} == {
            some[0].dtype
        }:
            torch._foreach_lerp_(some, refs, list(numbers.to(refs[0]).unbind()))
        else:
            for index, ref in zip(toward, refs, strict=True):
                amount = amounts[index]
                params[index].lerp_(ref, amount.to(ref) if isinstance(amount, Tensor) else amount)


def _is_one_number(amounts: Amounts) -> bool:
    """Whether one foreach kernel does for all; in a graph those keep tensors that are written to later."""
    first = amounts[0]
    if torch.is_grad_enabled():
        return False
    if isinstance(first, Tensor):
        return first.dim() == 0 and all(amount is first for amount in amounts)
    return set(map(type, amounts)) <= {float, int} and amounts.count(first) == len(amounts)


def _numbers(amounts: Amounts) -> Tensor | None:
    """The amounts as a vector, where each is one number, and nothing is to be differentiated."""
    if all(isinstance(amount, float) for amount in amounts) and not torch.is_grad_enabled():
        return torch.tensor(amounts, dtype=torch.float64)
    if torch.is_grad_enabled() or not all(isinstance(amount, Tensor) and not amount.dim() for amount in amounts):
        return None
    tensors = [amount for amount in amounts if isinstance(amount, Tensor)]
    alike = len({(one.dtype, one.device) for one in tensors}) == 1
    return torch.stack(tensors) if alike else None


def _at_once(kernel: Callable[..., None], param: Tensor, amount: Amount, parts: Tensors, *setting: Any) -> None:
    kernel(param, amount, parts, *setting)


def in_parts(kernel: Callable[..., None], param: Tensor, amount: Amount, parts: Tensors, *setting: Any) -> None:
    """Run an in-place kernel over matching flat parts that stay in cache; over the whole where that can't be."""
    tensors = (param, *parts, *([amount] if isinstance(amount, Tensor) else []))
    plain = type(param) in PLAIN and param.numel() > _CHUNK
    if type(param.data) is not Tensor:
        # Other kinds of tensor do not mix with plain ones, not even with those of a single number.
        numbers: list[Any] = [one.item() if type(one) is Tensor and one.dim() == 0 else one for one in parts]
        kernel(param, amount, numbers, *setting)
        return
    flat = as_vectors(tensors, setting) if plain else None
    if flat is None:
        kernel(param, amount, parts, *setting)
        return
    for start in range(0, param.numel(), _CHUNK):
        p, *rest = (one if one.dim() == 0 else one[start : start + _CHUNK] for one in flat)
        kernel(p, rest.pop() if isinstance(amount, Tensor) else amount, tuple(rest), *setting)


def over(
    run: Run, kernel: Callable[..., None], params: Tensors, amounts: Amounts, columns: Columns, *setting: Any
) -> None:
    """Run an elementwise kernel over each of some weights; small ones as one long one: calls cost more than arithmetic.

    Args:
        run: how it is run on one.
        kernel: changes a weight in place, given its amount, and what it reads besides.
        params: the weights.
        amounts: one for each.
        columns: what it reads: tensors of the weights' shapes, or a number for all.
        setting: what is the same for all.
    """
    small = _joinable(params, amounts, columns, setting)
    together = set(small)
    for i, param in enumerate(params):
        if i not in together:
            run(kernel, param, amounts[i], tuple(one[i] if isinstance(one, list) else one for one in columns), *setting)
    if small:
        some = [params[i] for i in small]
        vector = joined(some)
        parts = tuple(joined([one[i] for i in small]) if isinstance(one, list) else one for one in columns)
        run(kernel, vector, amounts[small[0]], parts, *setting)
        torch._foreach_copy_(some, cut(vector, some))


_SIZE, _IS_CONTIGUOUS, _SHAPE = methodcaller("numel"), methodcaller("is_contiguous"), attrgetter("shape")


def _joinable(params: Tensors, amounts: Amounts, columns: Columns, setting: tuple[Any, ...]) -> list[int]:
    """Places of weights that may be worked on as one long one: small, plain, and all by the same number."""
    small = [i for i, size in enumerate(map(_SIZE, params)) if size <= _SMALL]
    if len(small) < 2 or type(params[0]) not in PLAIN or not _is_one_number([amounts[i] for i in small]):
        return []
    if not all(one.elementwise for one in setting if isinstance(one, Regularizer)):
        return []
    some = [params[i] for i in small]
    shapes = [param.shape for param in some]
    for column in (some, *([one[i] for i in small] for one in columns if isinstance(one, list))):
        alike = len({(type(one) in PLAIN, one.dtype) for one in column}) == 1 and type(column[0]) in PLAIN
        if not alike or [one.shape for one in column] != shapes or not all(map(_IS_CONTIGUOUS, column)):
            return []
    return small


def joined(tensors: Tensors) -> Tensor:
    """Tensors one behind the other, as a vector."""
    if len(tensors) > 1 and len(set(map(_SHAPE, tensors))) == 1:
        return rows(tensors).detach().view(-1)
    # In Python a view of each would cost more than all the rest.
    made: Tensor = _flatten_dense_tensors(tensors)  # type: ignore[no-untyped-call]
    return made.detach()


def cut(vector: Tensor, like: Tensors) -> list[Tensor]:
    """The parts of a vector that was `joined`, in the shapes of some tensors."""
    if len(set(map(_SHAPE, like))) == 1:
        return list(vector.view(len(like), *like[0].shape).unbind())
    return list(_unflatten_dense_tensors(vector, like))  # type: ignore[no-untyped-call]


def as_vectors(tensors: Tensors, setting: Iterable[Any]) -> list[Tensor] | None:
    """The tensors as vectors, numbers as they are; None where a kernel must see them whole, in their own shape."""
    shape = tensors[0].shape
    elementwise = all(one.elementwise for one in setting if isinstance(one, Regularizer))
    if not elementwise or not all(one.dim() == 0 or (one.is_contiguous() and one.shape == shape) for one in tensors):
        return None
    return [one.detach() if one.dim() == 0 else one.detach().view(-1) for one in tensors]
