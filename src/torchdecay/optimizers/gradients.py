"""Gradients as an optimizer's update rule sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torchdecay.sharding import aligned, local, over_ranks

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer


def grad_of(param: Tensor) -> Tensor:
    """The gradient of a parameter that is known to have one, cut over the ranks as the parameter is."""
    grad = param.grad
    assert grad is not None
    return aligned(grad, param)


def maximizes(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether the optimizer negates gradients: by a key of the group, or, outside torch, for all groups at once."""
    return bool(group.get("maximize", getattr(optimizer, "maximize", False)))


def as_seen(optimizer: Optimizer, group: Mapping[str, Any], grad: Tensor) -> Tensor:
    """A gradient as the update rule sees it: unscaled, and negated where the group maximizes."""
    scale = getattr(optimizer, "grad_scale", None)
    if scale is not None:
        grad = grad / scale
    return -grad if maximizes(optimizer, group) else grad


def mean_second_moment(optimizer: Optimizer) -> Tensor:
    """v̄: the mean over all elements of all groups of the bias-corrected second moment of the step that comes next."""
    total: Tensor | None = None
    count = 0
    for group in optimizer.param_groups:
        beta2: float = group["betas"][1]
        for param in group["params"]:
            if param.grad is None:
                continue
            state = optimizer.state.get(param, {})
            squares = wide(local(as_seen(optimizer, group, grad_of(param)))).norm().square() * (1 - beta2)
            before = state.get("exp_avg_sq")
            if before is not None:
                squares = squares + beta2 * wide(local(before)).sum()
            squares = over_ranks(squares, param)
            corrected = squares / (1 - beta2 ** (float(state.get("step", 0)) + 1))
            total = corrected if total is None else total + corrected.to(total.device)
            count += param.numel()
    assert total is not None
    return total / count


def wide(tensor: Tensor) -> Tensor:
    """At least float32, in which sums and differences of half-precision numbers are taken."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor
