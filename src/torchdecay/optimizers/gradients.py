"""Gradients as an optimizer's update rule sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torchdecay.batches import SMALL, norms_here
from torchdecay.optimizers.updates import numbers
from torchdecay.sharding import aligned, all_over_ranks, local, over_group, stacked

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


def mean_second_moment(optimizer: Optimizer, stages: Any = None) -> Tensor:
    """v̄: the mean over all elements of all groups of the bias-corrected second moment of the step that comes next.

    Args:
        optimizer: of the Adam family.
        stages: the process group whose optimizers have the other elements.
    """
    by_device: dict[Any, list[tuple[Tensor, float]]] = {}
    for group in optimizer.param_groups:
        for param in group["params"]:
            if param.grad is not None:
                by_device.setdefault(param.device, []).append((param, group["betas"][1]))
    sums = [_second_moments(optimizer, live) for live in by_device.values()]
    total, count = sums[0][0], sum(one for _, one in sums)
    for other, _ in sums[1:]:
        total = total + other.to(total.device)
    if stages is None:
        return total / count
    import torch

    both = over_group(torch.stack([total, torch.full_like(total, count)]), stages)
    return (both[0] / both[1]).to(total.dtype)


def _second_moments(optimizer: Optimizer, live: list[tuple[Tensor, float]]) -> tuple[Tensor, int]:
    """The sum of corrected second moments of some parameters on one device, and of how many elements it is."""
    import torch

    params, states = [param for param, _ in live], [optimizer.state.get(param, {}) for param, _ in live]
    grads = [wide(local(grad_of(param))) for param in params]
    sparse = any(grad.is_sparse for grad in grads)
    sizes = stacked([grad.norm() for grad in grads]) if sparse else norms_here(grads)
    moments = [state.get("exp_avg_sq") for state in states]
    # They are squares, so that their sum is that of their sizes, which one call takes of all small ones.
    own = [None if m is None else wide(local(m)) for m in moments]
    small = [m for m in own if m is not None and m.numel() <= SMALL]
    sums_of_small = iter(norms_here(small, 1).unbind() if small else ())
    kept = [sizes.new_zeros(()) if m is None else next(sums_of_small) if m.numel() <= SMALL else m.sum() for m in own]
    precision = torch.float32 if sizes.device.type == "mps" else torch.float64
    beta = torch.tensor([beta2 for _, beta2 in live], dtype=precision, device=sizes.device)
    steps = 1 + torch.tensor(numbers([state.get("step", 0.0) for state in states]), dtype=precision, device=beta.device)
    scale = float(getattr(optimizer, "grad_scale", None) or 1.0)
    square, before = sizes.to(precision), stacked(kept).to(precision)
    here = all_over_ranks((square / scale).square() * (1 - beta) + beta * before, params)
    return (here / (1 - beta**steps)).sum().to(sizes.dtype), sum(param.numel() for param in params)


def wide(tensor: Tensor) -> Tensor:
    """At least float32, in which sums and differences of half-precision numbers are taken."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor
