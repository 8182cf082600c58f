"""The course of one weight without gradient: what each step of the run takes off it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from torchdecay.observe.fractions import log_retention
from torchdecay.observe.pulls import Pulled
from torchdecay.optimizers.updates import settled
from torchdecay.plans.controllers import Stable

KEYS = ("lr", "momentum", "betas")
"""What schedulers move and a forecast depends on."""


@dataclass(frozen=True)
class Course:
    """What happens to a weight without gradient, step by step.

    Attributes:
        pulls: c_t·λ_t; for a coupled decay of SGD η_t·λ_t.
        fractions: what that takes off a weight per step once momentum has settled.
        losses: 1 − w_{t+1}/w_t as it comes out; above 1 the sign flips.
        swings: whether momentum carries the weight through zero and back.
        logs: ln|w_t/w_0|, from the start to the end of the run.
    """

    pulls: Sequence[float]
    fractions: Sequence[float]
    losses: Sequence[float]
    swings: bool = False
    logs: array[float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "logs", array("d", accumulate(map(log_retention, self.losses), initial=0.0)))

    @property
    def mean_fraction(self) -> float:
        """Of all steps."""
        return math.fsum(self.fractions) / len(self.fractions)

    @property
    def total_shrink(self) -> float:
        """1 − w_T/w_0."""
        flipped = sum(loss > 1.0 for loss in self.losses) % 2
        try:
            return 1.0 + math.exp(self.logs[-1]) if flipped else -math.expm1(self.logs[-1]) + 0.0
        except OverflowError:
            return math.inf if flipped else -math.inf


def course_of(pulled: Pulled, curves: Mapping[str, Sequence[Any]]) -> Course:
    """The course of a weight under a pull whose amount does not depend on gradients.

    Args:
        pulled: what pulls.
        curves: "lr", and "momentum" where the optimizer has one, step by step.
    """
    rates = curves["lr"]
    if pulled.decay is None:
        return still(len(rates))
    momenta = curves.get("momentum") or [0.0] * len(rates)
    if pulled.is_coupled:
        return _through_momentum(pulled.values, rates, momenta, _by_rate(pulled, rates, pulled.coefficient))
    amounts = _by_rate(pulled, rates, pulled.amount)
    if isinstance(pulled.decay.controller, Stable):
        amounts = [amount * settled(pulled.values, momentum) for amount, momentum in zip(amounts, momenta, strict=True)]
    return Course(amounts, amounts, amounts)


def without_rates(pulled: Pulled, num_steps: int) -> Course | None:
    """The course where nobody knows the learning rate, or None where it matters."""
    if pulled.decay is None:
        return still(num_steps)
    # Any learning rate but 0 will do.
    return course_of(pulled, {"lr": [1.0] * num_steps}) if pulled.is_free and not pulled.decay.controller else None


def still(num_steps: int) -> Course:
    """The course without decay."""
    nothing = [0.0] * num_steps
    return Course(nothing, nothing, nothing)


def _by_rate(pulled: Pulled, rates: Sequence[float], number: Callable[[float, int], float]) -> list[float]:
    """A number of each step, at the learning rates one after the other; steps at learning rate 0 do not count."""
    if pulled.is_constant:
        known = {lr: number(lr, 0) for lr in set(rates)}
        return [known[lr] for lr in rates]
    taken = accumulate((lr != 0.0 for lr in rates), initial=0)
    return [number(lr, ahead) for lr, ahead in zip(rates, taken, strict=False)]


def _through_momentum(
    values: Mapping[str, Any], rates: Sequence[float], momenta: Sequence[float], coefficients: Sequence[float]
) -> Course:
    """SGD on a gradient that is λ·w alone, its buffer in units of the weight; it starts empty."""
    fresh, nesterov = 1.0 - float(values.get("dampening", 0.0)), bool(values.get("nesterov", False))
    pulls, fractions, losses = [], [], []
    buffer: float | None = None
    for lr, momentum, wd in zip(rates, momenta, coefficients, strict=True):
        pulls.append(lr * wd)
        fractions.append(_settled(lr * wd, momentum, fresh, nesterov))
        if not momentum:
            losses.append(lr * wd)
            continue
        # A first step takes the gradient whole.
        buffer = wd if buffer is None else momentum * buffer + fresh * wd
        loss = lr * (wd + momentum * buffer if nesterov else buffer)
        losses.append(loss)
        buffer = buffer / (1.0 - loss) if loss != 1.0 else 0.0
    swings = any(momenta) and any(loss > 1.0 for loss in losses)
    return Course(pulls, fractions, losses, swings)


def _settled(pull: float, momentum: float, fresh: float, nesterov: bool) -> float:
    """1 − the larger root of the recursion of weight and buffer: about pull·(1 − dampening)/(1 − momentum).

    Where the roots are complex, weights swing, and shrink by √root product per step.
    """
    if not momentum or not pull:
        return pull
    trace = 1.0 + momentum - (pull * (1.0 + momentum * fresh) if nesterov else pull * fresh)
    product = momentum * (1.0 - pull) if nesterov else momentum
    discriminant = trace * trace / 4.0 - product
    if discriminant < 0.0:
        return 1.0 - math.sqrt(abs(product))
    # 1 − root, where the product of both such differences is 1 − trace + product: no digits are lost.
    other = 1.0 - (trace / 2.0 - math.sqrt(discriminant))
    return (1.0 - trace + product) / other
