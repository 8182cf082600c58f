"""What an optimizer's own state says about the step that it is about to take, read before the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim import Optimizer

from torchdecay.apply.work import Elementwise, grad_of
from torchdecay.optimizers.own_decay import native_of


def reads_update_sign(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether `update_direction` knows this optimizer."""
    return _is_lion(optimizer, group) or (native_of(optimizer, group) is not None and type_of(optimizer) in _DIRECTIONS)


def update_direction(optimizer: Optimizer, group: Mapping[str, Any], param: Tensor) -> Elementwise:
    """Numbers with the signs of the update u in θ ← θ − u that comes next, zeros included.

    Only for what `reads_update_sign` knows.
    The decay must not go through the gradient in this group, since the gradient is read as it is.
    """
    state = optimizer.state.get(param, {})
    grad = gradient_seen(optimizer, group, param)
    rule: Callable[..., Elementwise] = _lion if _is_lion(optimizer, group) else _DIRECTIONS[type_of(optimizer)]
    return rule(group, state, grad)


def type_of(optimizer: Optimizer) -> type[Optimizer]:
    """The optimizer's class in `torch.optim`, which it is or derives from."""
    return next((cls for cls in type(optimizer).__mro__ if cls in _DIRECTIONS), type(optimizer))


def gradient_seen(optimizer: Optimizer, group: Mapping[str, Any], param: Tensor) -> Tensor:
    """The gradient as the update rule sees it: unscaled, and negated where the group maximizes."""
    grad = grad_of(param)
    scale = getattr(optimizer, "grad_scale", None)
    if scale is not None:
        grad = grad / scale
    return -grad if maximizes(optimizer, group) else grad


def maximizes(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether the optimizer negates gradients: by a key of the group, or, outside torch, for all groups at once."""
    return bool(group.get("maximize", getattr(optimizer, "maximize", False)))


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
            squares = torch.linalg.vector_norm(_wide(gradient_seen(optimizer, group, param))).square() * (1 - beta2)
            before = state.get("exp_avg_sq")
            if before is not None:
                squares = squares + beta2 * _wide(before).sum()
            corrected = squares / (1 - beta2 ** (float(state.get("step", 0)) + 1))
            total = corrected if total is None else total + corrected.to(total.device)
            count += param.numel()
    assert total is not None
    return total / count


def _wide(tensor: Tensor) -> Tensor:
    """At least float32, in which sums of half-precision numbers are taken."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def _gradient(group: Mapping[str, Any], state: Mapping[str, Any], grad: Tensor) -> Elementwise:
    return Elementwise(lambda g: g, (grad,))


def _sgd(group: Mapping[str, Any], state: Mapping[str, Any], grad: Tensor) -> Elementwise:
    momentum: float = group["momentum"]
    fresh, nesterov = 1 - float(group["dampening"]), bool(group["nesterov"])
    buffer = state.get("momentum_buffer")
    if not momentum or buffer is None:
        # A first step, whose buffer is the gradient itself: with Nesterov the same signs again.
        return _gradient(group, state, grad)

    def direction(g: Tensor, b: Tensor) -> Tensor:
        moved = b * momentum + g * fresh
        return g + moved * momentum if nesterov else moved

    return Elementwise(direction, (grad, buffer))


def _first_moment(group: Mapping[str, Any], state: Mapping[str, Any], grad: Tensor) -> Elementwise:
    moment, weight = state.get("exp_avg"), 1 - group["betas"][0]
    if moment is None:
        return Elementwise(lambda g: g * weight, (grad,))
    return Elementwise(lambda g, m: torch.lerp(m, g.to(m.dtype), weight), (grad, moment))


def _lion(group: Mapping[str, Any], state: Mapping[str, Any], grad: Tensor) -> Elementwise:
    moment, weight = state.get("exp_avg"), 1 - group["betas"][0]
    if moment is None:
        return Elementwise(lambda g: g * weight, (grad,))
    return Elementwise(lambda g, m: m * (1 - weight) + g * weight, (grad, moment))


def _rmsprop(group: Mapping[str, Any], state: Mapping[str, Any], grad: Tensor) -> Elementwise:
    momentum: float = group["momentum"]
    buffer = state.get("momentum_buffer")
    if not momentum or buffer is None:
        return _gradient(group, state, grad)
    alpha, eps, centered = float(group["alpha"]), float(group["eps"]), bool(group["centered"])
    averages = (state["grad_avg"],) if centered else ()

    def direction(g: Tensor, b: Tensor, square: Tensor, *average: Tensor) -> Tensor:
        square = square * alpha + g * g * (1 - alpha)
        if centered:
            square = square - torch.lerp(average[0], g, 1 - alpha).square()
        return b * momentum + g / (square.sqrt() + eps)

    return Elementwise(direction, (grad, buffer, state["square_avg"], *averages))


def _nadam(group: Mapping[str, Any], state: Mapping[str, Any], grad: Tensor) -> Elementwise:
    beta1, decay = group["betas"][0], group["momentum_decay"]
    step = float(state.get("step", 0)) + 1
    now = beta1 * (1 - 0.5 * 0.96 ** (step * decay))
    following = beta1 * (1 - 0.5 * 0.96 ** ((step + 1) * decay))
    product = float(state.get("mu_product", 1.0)) * now
    of_grad, of_moment = (1 - now) / (1 - product), following / (1 - product * following)
    moment = state.get("exp_avg")
    if moment is None:
        # Both parts have the gradient's signs.
        return _gradient(group, state, grad)
    share = torch.tensor(of_moment / of_grad, dtype=torch.float64)
    return Elementwise(lambda g, m, share: g + torch.lerp(m, g, 1 - beta1) * share, (grad, moment, share))


_DIRECTIONS: Mapping[type[Optimizer], Callable[..., Elementwise]] = {
    optim.SGD: _sgd,
    optim.Adam: _first_moment,
    optim.AdamW: _first_moment,
    optim.RAdam: _first_moment,
    optim.Adamax: _first_moment,
    optim.NAdam: _nadam,
    optim.RMSprop: _rmsprop,
    optim.Adagrad: _gradient,
    optim.ASGD: _gradient,
}


_LION_VARIANTS = ("cautious", "cautious_factor", "use_gc")
"""Keys of Lions that mask or center what they take the sign of, where they are set."""


def _is_lion(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Lion comes from many libraries, mostly as sign(β₁m + (1 − β₁)g) over one moment called exp_avg."""
    if type(optimizer).__name__.lower() not in ("lion", "foreachlion"):
        # Asked for each parameter, so the look at every state must not be taken each time.
        return False
    plain = all(group.get(key, False) is False for key in _LION_VARIANTS)
    states = [set(state) for state in optimizer.state.values()]
    known = all("exp_avg" in keys and "exp_avg_sq" not in keys for keys in states)
    return plain and "betas" in group and known
