"""The update that an optimizer has just taken, from the state that it left: u in θ ← θ − u, without any decay.

Only where the state tells it exactly, and where decay does not go through it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, optim
from torch.optim import Optimizer

from torchdecay.optimizers.own_decay import native_of
from torchdecay.plans.decay import Site

Update = Callable[[Mapping[str, Any], Mapping[str, Tensor], float, Tensor | None], Tensor]
"""From the group, the state's tensors (the same part of each), the step and the gradient that was seen, to u.

The gradient is None where the rule does not read it (see `reads_gradient`).
"""


def update_rule(optimizer: Optimizer, group: Mapping[str, Any]) -> Update | None:
    """How to get the update of this group from its state, or None where the state does not tell it."""
    native = native_of(optimizer, group)
    if native is None:
        return None
    cls = next((cls for cls in type(optimizer).__mro__ if cls in _RULES), None)
    if cls is optim.SGD:
        # With momentum the buffer holds earlier decay, which can't be told from earlier gradients.
        return None if group["momentum"] else _sgd
    return _RULES[cls] if cls is not None and native.site is Site.BEFORE else None


def reads_gradient(rule: Update) -> bool:
    """Whether the rule reads the gradient, and not only what the state keeps of it."""
    return rule in (_sgd, _nadam)


def tensors_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """What an update rule reads of one parameter's state."""
    return {name: state[name] for name in _READ if isinstance(state.get(name), Tensor)}


def _sgd(group: Mapping[str, Any], state: Mapping[str, Tensor], step: float, gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    update: Tensor = gradient * float(group["lr"])
    return update


def _adam(group: Mapping[str, Any], state: Mapping[str, Tensor], step: float, gradient: Tensor | None) -> Tensor:
    beta1, beta2 = _betas(group)
    square = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    size = square.div(_filled(beta2, step)).sqrt_().add_(float(group["eps"]))
    return state["exp_avg"].div(size).mul_(float(group["lr"]) / _filled(beta1, step))


def _radam(group: Mapping[str, Any], state: Mapping[str, Tensor], step: float, gradient: Tensor | None) -> Tensor:
    beta1, beta2 = _betas(group)
    filled = _filled(beta2, step)
    corrected = state["exp_avg"] * (float(group["lr"]) / _filled(beta1, step))
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * (1 - filled) / filled
    if length <= 5:
        return corrected
    rect = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
    size = state["exp_avg_sq"].sqrt().add_(float(group["eps"]))
    return corrected.div_(size).mul_(rect * math.sqrt(filled))


def _nadam(group: Mapping[str, Any], state: Mapping[str, Tensor], step: float, gradient: Tensor | None) -> Tensor:
    beta1, beta2 = _betas(group)
    decay, lr = float(group["momentum_decay"]), float(group["lr"])
    now, following = (beta1 * (1 - 0.5 * 0.96 ** (at * decay)) for at in (step, step + 1))
    product = float(state["mu_product"])
    size = state["exp_avg_sq"].div(_filled(beta2, step)).sqrt_().add_(float(group["eps"]))
    assert gradient is not None
    moved: Tensor = gradient * (lr * (1 - now) / (1 - product))
    moved.add_(state["exp_avg"], alpha=lr * following / (1 - product * following))
    return moved.div_(size)


def _filled(beta: float, step: float) -> float:
    """How much of an average that began at 0 has been filled: 1 − βᵗ."""
    return 1 - math.pow(beta, step)


def _betas(group: Mapping[str, Any]) -> tuple[float, float]:
    return float(group["betas"][0]), float(group["betas"][1])


_READ = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "mu_product")
_RULES: Mapping[type[Optimizer], Update] = {
    optim.SGD: _sgd,
    optim.NAdam: _nadam,
    optim.RAdam: _radam,
    optim.Adam: _adam,
    optim.AdamW: _adam,
}
