"""How large a proximal step must be so that training ends at the minimum of loss + λR, for each optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim import Optimizer

from torchdecay.apply.work import Elementwise
from torchdecay.optimizers.own_decay import native_of

_ADAM_FAMILY = (optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam)


def is_matched(optimizer: Optimizer, group: Mapping[str, Any], param: Tensor) -> bool:
    """Whether `step_size` makes the optimum of L + λR a fixed point of this optimizer with a proximal step."""
    if native_of(optimizer, group) is None:
        return False
    # Adam scales the two parts of a complex weight apart, so that no step size is that of its modulus.
    return isinstance(optimizer, optim.SGD) or (isinstance(optimizer, _ADAM_FAMILY) and not param.is_complex())


def step_size(optimizer: Optimizer, group: Mapping[str, Any], param: Tensor) -> float | Elementwise:
    r"""The s for which the optimizer's settled update is lr·s·g: what a gradient g that stays moves a weight by.

    $$s = 1 \text{ (SGD)}, \quad \frac{1 - \text{dampening}}{1 - \text{momentum}} \text{ (momentum)}, \quad
    \frac{1}{\sqrt{\hat v} + \epsilon} \text{ elementwise (Adam, AdamW)}$$

    NAdam and RAdam as Adam, times what their momentum schedule and their rectification are at this step. Elsewhere
    1, and `is_matched` says no. To be called after the step, when the state is the step's own.
    """
    if not is_matched(optimizer, group, param):
        return 1.0
    if isinstance(optimizer, optim.SGD):
        momentum, dampening = group["momentum"], group["dampening"]
        settled = (1 - dampening) / (1 - momentum) if momentum else 1.0
        # Nesterov adds the gradient itself to momentum times the buffer.
        return 1 + momentum * settled if group["nesterov"] else settled
    state = optimizer.state[param]
    second = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    step, eps = float(state["step"]), group["eps"]
    correction = 1 - group["betas"][1] ** step
    if isinstance(optimizer, optim.RAdam):
        rectification = _rectification(group["betas"][1], step, correction)
        if rectification is None:
            return 1.0
        # RAdam adds eps before it corrects the bias, the others after.
        gain = torch.tensor(math.sqrt(correction) * rectification, dtype=torch.float64)
        return Elementwise(lambda v, gain: gain / v.sqrt().add_(eps), (second, gain))
    root = torch.tensor(math.sqrt(correction), dtype=torch.float64)
    if isinstance(optimizer, optim.NAdam):
        gain = torch.tensor(_nesterov(group, float(state["mu_product"]), step), dtype=torch.float64)
        return Elementwise(lambda v, root, gain: gain * root / v.sqrt().add_(eps * root), (second, root, gain))
    return Elementwise(lambda v, root: root / v.sqrt().add_(eps * root), (second, root))


def _rectification(beta2: float, step: float, correction: float) -> float | None:
    """RAdam's factor at this step; None while it steps without a denominator."""
    limit = 2 / (1 - beta2) - 1
    rho = limit - 2 * step * beta2**step / correction
    if rho <= 5:
        return None
    return math.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))


def _nesterov(group: Mapping[str, Any], product: float, step: float) -> float:
    """NAdam's weight of a gradient that stays: its own part and its part through momentum."""
    beta1, decay = group["betas"][0], group["momentum_decay"]
    mu, following = (beta1 * (1 - 0.5 * 0.96 ** (t * decay)) for t in (step, step + 1))
    own: float = (1 - mu) / (1 - product)
    through: float = following * (1 - beta1**step) / (1 - product * following)
    return own + through
