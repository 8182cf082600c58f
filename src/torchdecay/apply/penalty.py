"""Penalties in the loss, L1 and L2, as one autograd node with a closed-form gradient."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchdecay.arguments import check_number
from torchdecay.errors import DecayError, PlanError
from torchdecay.plans.plan import Plan
from torchdecay.sharding import cuts, is_dtensor, local, over_ranks
from torchdecay.text import repr_quoted

# On a CPU a float32 norm over all of a large tensor is off by up to 3e-2; over blocks of this size, by 3e-6.
_BLOCK = 256
_LOW_PRECISION = (torch.float16, torch.bfloat16)
_DOUBLE_PRECISION = (torch.float64, torch.complex128)
# Kernels elsewhere round a 0-d factor to the half precision of the tensor beside it: 1e-8 becomes 0.
_KEEPS_PRECISION_OF_FACTOR = ("cpu",)


def penalty(
    model_or_parameters: nn.Module | Mapping[str, Tensor] | Iterable[Any],
    *,
    l1: float = 0.0,
    l2: float = 0.0,
) -> Tensor:
    r"""L1 and L2 penalty over all weights, to be added to a loss.

    $$P = l_1 \sum_i |w_i| + l_2 \sum_i w_i^2, \qquad \nabla P = l_1\,\mathrm{sign}(w) + 2\,l_2\,w$$

    where w runs over every element of every tensor (|w| is the modulus of a complex weight), and l1 and l2
    are the coefficients.

    There is no ½: `penalty(l2=a)` pulls like `weight_decay=2 * a`. A penalty goes through autograd, so that
    gradient clipping, accumulation, loss scaling and an adaptive optimizer's preconditioner all see it, and
    the printed loss contains it. `td.coupled(2 * a)` gives the optimizer the same gradient without the value.
    Where it is added to the gradients in place it allocates no second gradient and costs a third to a fifth
    of this penalty, a tenth of the sum by hand; in a fused optimizer it costs nothing. `td.decoupled` is
    another method: alike for plain SGD, not for Adam. Under an L1 penalty weights oscillate around zero; `td.l1`
    gives exact zeros.

    The whole sum is one autograd node. It is right under `torch.autograd.grad`, double backward, `torch.func` in
    reverse mode, `torch.compile` and DistributedDataParallel. Beside the gradient itself it allocates at most a copy
    of one tensor at a time. A coefficient of 0 costs nothing and sends no gradient back, so the gradients of the loss
    stay as they are, bit for bit.

    Which tensors count, each of them once even where it is tied:

    * of a module, every parameter that requires a gradient, biases and norms included;
    * of an iterable of tensors or of (name, tensor) pairs, or a mapping of names to tensors, all of them; one
      that requires no gradient adds to the value alone. An empty iterable gives 0.

    Args:
        model_or_parameters: a module, or tensors of any shape, real or complex, of any mix of dtypes and
            devices. Of a sparse tensor the stored values count. Of a DTensor every rank gets the value of the
            whole, and the gradient of its own shard.
        l1: coefficient of Σ|w|, finite and at least 0.
        l2: coefficient of Σw², finite and at least 0.

    Returns:
        A 0-d tensor on the first tensor's device; float64 where any tensor is, else float32, in which float16
        and bfloat16 are summed.

    Raises:
        DecayError: a coefficient that is negative, NaN, infinite or no number; something that is no tensor,
            or a tensor of integers or of a rare sparse layout.
        PlanError: a module without a trainable parameter, or with one that is not initialized yet; a plan.

    Example:
        >>> import torch
        >>> import torchdecay as td
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = torch.nn.init.constant_(model.weight, 3.0)
        >>> loss = td.penalty(model, l2=0.001)
        >>> loss.backward()
        >>> round(loss.item(), 6), model.weight.grad
        (0.018, tensor([[0.0060, 0.0060]]))

    Reference: A. Krogh and J. Hertz, "A Simple Weight Decay Can Improve Generalization", NIPS 4 (1991); for
    the difference under Adam, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
    """
    l1, l2 = check_number(l1, "penalty's l1"), check_number(l2, "penalty's l2")
    return sum_penalty(_tensors_of(model_or_parameters), l1=l1, l2=l2)


def sum_penalty(
    tensors: Sequence[Tensor],
    *,
    l1: float | Sequence[float],
    l2: float | Sequence[float],
    references: Sequence[Tensor | None] | None = None,
    masks: Sequence[Tensor | None] | None = None,
) -> Tensor:
    r"""The node under `penalty`: coefficients, a reference and a mask for each tensor; it checks nothing.

    $$P = \sum_t \sum_i M_{t,i} \left( l_{1,t}\,|w_{t,i} - r_{t,i}| + l_{2,t}\,(w_{t,i} - r_{t,i})^2 \right)$$

    Args:
        tensors: w, each of them once.
        l1: one coefficient for all tensors, or one for each.
        l2: likewise; the penalty that pulls like `weight_decay=λ` has l2 = λ/2.
        references: r, constants of each tensor's shape; None is zero, for all or for one of them.
        masks: M, bool, True takes part, broadcastable to each tensor's shape; None is all.
    """
    count = len(tensors)
    if count == 0:
        return torch.zeros(())
    coefficients = [(c,) * count if isinstance(c, (int, float)) else tuple(c) for c in (l1, l2)]
    none = [None] * count
    constants = [None if r is None else r.detach() for r in references or none]
    value: Tensor = _Penalty.apply(*coefficients, *tensors, *constants, *(masks or none))  # type: ignore[no-untyped-call]
    return value


class _Penalty(torch.autograd.Function):
    """Takes the tuples l1 and l2, then n tensors, n references and n masks; these two may be None."""

    generate_vmap_rule = True

    @staticmethod
    def forward(l1: tuple[float, ...], l2: tuple[float, ...], *inputs: Any) -> Tensor:
        # Block norms with the same coefficient, dtype and place are squared and summed in one go.
        norms: dict[Any, list[Tensor]] = {}
        wholes: dict[Any, Tensor] = {}
        tensors, references, masks = _thirds(inputs)
        for c1, c2, w, reference, mask in zip(l1, l2, tensors, references, masks, strict=True):
            delta = _stored(_distance(w, reference, mask))
            dtype = torch.float32 if delta.dtype in _LOW_PRECISION else delta.dtype
            for order, coefficient in ((1, c1), (2, c2)):
                if coefficient:
                    key = order, coefficient, dtype, delta.device, tuple(cuts(w))
                    wholes[key] = w
                    norms.setdefault(key, []).extend(_block_norms(delta, order, dtype))
        double = any(w.dtype in _DOUBLE_PRECISION for w in tensors)
        total = torch.zeros((), dtype=torch.float64 if double else torch.float32, device=tensors[0].device)
        for key, parts in norms.items():
            order, coefficient, *_ = key
            norm = torch.cat(parts) if len(parts) > 1 else parts[0]
            here = norm.sum() if order == 1 else norm.square().sum()
            total = total + coefficient * over_ranks(here, wholes[key]).to(total)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.l1, ctx.l2, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        factors: dict[Any, Tensor] = {}
        # Once: checkpointing without re-entrance computes them for the one who asks, and for nobody after that.
        saved = ctx.saved_tensors
        for device in {w.device for w in saved[: len(ctx.l1)]}:
            for coefficient in {*ctx.l1, *(2 * l2 for l2 in ctx.l2)}:
                factors[coefficient, device] = (grad_output * coefficient).to(device)
        wanted = ctx.needs_input_grad[2 : 2 + len(ctx.l1)]
        rows = zip(ctx.l1, ctx.l2, *_thirds(saved), wanted, strict=True)
        gradients = [_gradient(factors, *row) if is_wanted else None for *row, is_wanted in rows]
        return None, None, *gradients, *[None] * (2 * len(gradients))


def _gradient(
    factors: dict[Any, Tensor], l1: float, l2: float, w: Tensor, reference: Tensor | None, mask: Tensor | None
) -> Tensor | None:
    """M ⊙ (l₁ sign δ + 2 l₂ δ) times the incoming gradient, δ = w − r; differentiable while gradients are on."""
    if l1 == l2 == 0.0:
        return None
    device = w.device
    delta = _distance(w, reference, mask)
    if delta.dtype in _LOW_PRECISION and device.type not in _KEEPS_PRECISION_OF_FACTOR:
        delta = delta.float()
    if l1 == 0.0:
        gradient = delta * factors[2 * l2, device]
    elif torch.is_grad_enabled() or delta.is_sparse:
        gradient = delta.sgn() * factors[l1, device] + delta * factors[2 * l2, device]
    else:  # In place: each further allocation would cost more than all the arithmetic.
        gradient = delta.sgn().mul_(factors[l1, device])
        if l2:
            gradient.addcmul_(delta, factors[2 * l2, device])
    return gradient if gradient.dtype is w.dtype else gradient.to(w.dtype)


def _distance(w: Tensor, reference: Tensor | None, mask: Tensor | None) -> Tensor:
    """δ = w − r where the mask is True, elsewhere 0."""
    delta = w if reference is None else w - reference
    return delta if mask is None else delta.masked_fill(~mask, 0)


def _block_norms(delta: Tensor, order: int, dtype: torch.dtype) -> list[Tensor]:
    """Norms of the flattened tensor's blocks, as one 1-D tensor, or two where the last block is shorter."""
    count = delta.numel()
    if not delta.is_contiguous():  # a view of any dense tensor, channels last or transposed, is enough
        delta = delta.permute(sorted(range(delta.ndim), key=delta.stride, reverse=True))
    tail = count % _BLOCK
    if tail in (0, count):
        blocks = [delta.reshape(-1, _BLOCK) if count > tail else delta.reshape(1, count)]
    else:
        flat = delta.reshape(-1)
        blocks = [flat[:-tail].view(-1, _BLOCK), flat[-tail:].view(1, tail)]
    return [torch.linalg.vector_norm(block, order, dim=1, dtype=dtype) for block in blocks]


def _stored(delta: Tensor) -> Tensor:
    """The elements that are here: a DTensor's own shard, the values of a sparse tensor."""
    if is_dtensor(delta):
        return local(delta)
    return delta.coalesce().values() if delta.is_sparse else delta


def _thirds(inputs: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    n = len(inputs) // 3
    return inputs[:n], inputs[n : 2 * n], inputs[2 * n :]


def _tensors_of(source: Any) -> list[Tensor]:
    """The tensors that count, each once.

    Raises:
        DecayError: something that is no tensor, or a tensor of integers or of a rare sparse layout.
        PlanError: a module without a trainable parameter, or with one that is not initialized yet; a plan.
    """
    tensors: dict[int, Tensor] = {}
    for label, tensor in _labeled(source):
        if not isinstance(tensor, Tensor):
            raise DecayError(
                f"penalty got {label}, of type {type(tensor).__name__}.",
                "It takes a module, tensors, (name, tensor) pairs, or a mapping of names to tensors.",
                "Write td.penalty(model, l2=0.001) or td.penalty(model.parameters(), l2=0.001).",
            )
        if isinstance(tensor, nn.UninitializedParameter):
            raise PlanError(
                f"the parameter {label} is not initialized yet.",
                "A lazy module has no weights before its first batch.",
                "Run one batch through the model first.",
            )
        if not (tensor.is_floating_point() or tensor.is_complex()):
            raise DecayError(
                f"penalty got {label}, a tensor of {tensor.dtype}.",
                "Integers have no gradient.",
                "Pass the floating-point tensors alone.",
            )
        if tensor.layout not in (torch.strided, torch.sparse_coo):
            raise DecayError(
                f"penalty got {label}, whose layout is {tensor.layout}.",
                "Gradients of that layout cannot be scaled and added here.",
                "Make it a torch.sparse_coo tensor, or a dense one.",
            )
        tensors[id(tensor)] = tensor
    absent = [one for one in tensors.values() if one.is_meta]
    if absent and len(absent) < len(tensors):
        raise PlanError(
            f"{len(absent)} of the {len(tensors)} tensors are on the meta device, the others are not.",
            "What has no weights yet has no penalty that could be added to theirs.",
            "Give the model its weights first, or pass the tensors that have some.",
        )
    return list(tensors.values())


def _labeled(source: Any) -> Iterable[tuple[str, Any]]:
    """Pairs of what a message calls it, and what should be a tensor."""
    if isinstance(source, nn.Module):
        trainable = [(repr_quoted(name), p) for name, p in source.named_parameters() if p.requires_grad]
        if not trainable:
            raise PlanError(
                f"the {type(source).__name__} has no trainable parameter.",
                "Its penalty would be 0 whatever the coefficients.",
                "Pass model.parameters() to count frozen parameters too.",
            )
        return trainable
    if isinstance(source, Plan):
        raise PlanError(
            "penalty got a plan.",
            "A plan names parameters and holds no weights.",
            "For its rows in the loss, write handle = td.attach(optimizer, plan) and handle.penalty(model).",
        )
    if isinstance(source, Tensor):
        return [("the tensor", source)]
    items = source.items() if isinstance(source, Mapping) else source
    if isinstance(items, str) or not isinstance(items, Iterable):
        return [(reprlib.repr(source), source)]
    return [_labeled_item(i, item) for i, item in enumerate(items)]


def _labeled_item(i: int, item: Any) -> tuple[str, Any]:
    if isinstance(item, Tensor):
        return f"item {i}", item
    if isinstance(item, tuple) and len(item) == 2:
        return repr_quoted(str(item[0])), item[1]
    return f"item {i}, {reprlib.repr(item)}", item
