"""The course of one weight without gradient: what each step of the run takes off it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from torchdecay.observe.fractions import log_retention
from torchdecay.observe.groups import DECAY_NAMES, as_number, decay_of
from torchdecay.observe.lr_curve import points
from torchdecay.observe.pulls import Pulled
from torchdecay.optimizers.formulas import pace, settled
from torchdecay.plans.controllers import Stable

KEYS = ("lr", "momentum", "betas", *DECAY_NAMES)
"""What schedulers move and a forecast depends on."""


@dataclass(frozen=True)
class Course:
    """What happens to a weight without gradient, step by step.

    Attributes:
        pulls: c_t·λ_t; for a coupled decay of SGD η_t·λ_t.
        fractions: what that takes off a weight per step once momentum has settled, see `pace`.
        losses: 1 − w_{t+1}/w_t as it comes out; above 1 the sign flips.
        stride: how many steps each of these numbers stands for.
        swings: whether momentum carries the weight through zero and back.
        logs: ln|w_t/w_0|, from the start to the end of the run.
    """

    pulls: Sequence[float]
    fractions: Sequence[float]
    losses: Sequence[float]
    stride: float = 1.0
    swings: bool = False
    logs: array[float] = field(init=False)

    def __post_init__(self) -> None:
        each = (self.stride * log_retention(loss) for loss in self.losses)
        object.__setattr__(self, "logs", array("d", accumulate(each, initial=0.0)))

    @property
    def mean_fraction(self) -> float:
        """Of all steps."""
        return math.fsum(self.fractions) / len(self.fractions)

    @property
    def largest(self) -> float:
        """The most that a step takes off a weight, momentum included."""
        return max(*self.pulls, *self.fractions, *self.losses)

    @property
    def worst(self) -> int:
        """The place of the largest pull."""
        return max(range(len(self.pulls)), key=self.pulls.__getitem__)

    @property
    def total_shrink(self) -> float:
        """1 − w_T/w_0."""
        flipped = sum(loss > 1.0 for loss in self.losses) % 2
        try:
            return 1.0 + math.exp(self.logs[-1]) if flipped else -math.expm1(self.logs[-1]) + 0.0
        except OverflowError:
            return math.inf if flipped else -math.inf


def course_of(pulled: Pulled, curves: Mapping[str, Sequence[Any]] | None, num_steps: int) -> Course | None:
    """The course of a weight under a pull whose amount does not depend on gradients.

    Args:
        pulled: what pulls.
        curves: "lr", and "momentum" and what moves of weight_decay where the optimizer has them, step by step; None
            where nobody knows them, and then the course is None if they matter.
        num_steps: of the run, as far as it is to come.
    """
    decay = pulled.decay
    if curves is None:
        if decay is not None and (not pulled.is_free or decay.steering):
            return None
        # Any learning rate but 0 will do.
        curves = {"lr": [1.0] * points(num_steps)}
    rates = curves["lr"]
    stride = num_steps / len(rates)
    if decay is None:
        nothing = [0.0] * len(rates)
        return Course(nothing, nothing, nothing, stride)
    momenta = curves.get("momentum") or [0.0] * len(rates)
    numbers = _by_rate(pulled, rates, pulled.coefficient if pulled.is_coupled else pulled.amount, stride)
    if (moving := moved_decay(pulled, curves)) is not None:
        numbers = [number * wd / decay.coefficient for number, wd in zip(numbers, moving, strict=True)]
    if pulled.is_coupled:
        return _through_momentum(pulled, rates, momenta, numbers, stride)
    amounts = numbers
    if isinstance(decay.controller, Stable):
        amounts = [amount * settled(pulled.values, momentum) for amount, momentum in zip(amounts, momenta, strict=True)]
    return Course(amounts, amounts, amounts, stride)


def moved_decay(pulled: Pulled, curves: Mapping[str, Sequence[Any]] | None) -> Sequence[Any] | None:
    """The group's weight_decay step by step, where its scheduler moves it; None where nothing does."""
    name, asked = decay_of(pulled.optimizer, pulled.values)
    now, curve = as_number(asked), (curves or {}).get(name, ())
    return curve if any(one != now for one in curve) else None


def _by_rate(
    pulled: Pulled, rates: Sequence[float], number: Callable[[float, int], float], stride: float
) -> list[float]:
    """A number of each step, at the learning rates one after the other; steps at learning rate 0 do not count."""
    if pulled.is_constant:
        known = {lr: number(lr, 0) for lr in set(rates)}
        return [known[lr] for lr in rates]
    taken = accumulate((lr != 0.0 for lr in rates), initial=0)
    return [number(lr, int(ahead * stride)) for lr, ahead in zip(rates, taken, strict=False)]


def _through_momentum(
    pulled: Pulled, rates: Sequence[float], momenta: Sequence[float], coefficients: Sequence[float], stride: float
) -> Course:
    """SGD on a gradient that is λ·w alone, its buffer in units of the weight; empty at the start of a training."""
    values = pulled.values
    fresh, nesterov = 1.0 - float(values.get("dampening") or 0.0), bool(values.get("nesterov", False))
    pulls = [lr * wd for lr, wd in zip(rates, coefficients, strict=True)]
    known = {one: pace(values, *one) for one in set(zip(pulls, momenta, strict=True))}
    fractions = [known[one].fraction for one in zip(pulls, momenta, strict=True)]
    swings = any(one.swings for one in known.values())
    if stride > 1.0:
        return Course(pulls, fractions, fractions, stride, swings)
    losses: list[float] = []
    begun = is_under_way(pulled)
    buffer = _full(pulled, max(rates), max(coefficients)) if begun else None
    swings = swings or (begun and buffer is None)
    for pull, lr, momentum, wd in zip(pulls, rates, momenta, coefficients, strict=True):
        if not momentum:
            losses.append(pull)
            continue
        # A first step takes the gradient whole.
        buffer = wd if buffer is None else momentum * buffer + fresh * wd
        loss = lr * (wd + momentum * buffer if nesterov else buffer)
        losses.append(loss)
        buffer = buffer / (1.0 - loss) if loss != 1.0 else 0.0
    return Course(pulls, fractions, losses, swings=swings or (any(momenta) and any(loss > 1.0 for loss in losses)))


def _full(pulled: Pulled, lr: float, wd: float) -> float | None:
    """The most that the buffer holds of earlier decay, in units of the weight, by the highest learning rate.

    None where weights swing there: then it may hold anything.
    """
    values = pulled.values
    lr = max(lr, *(as_number(values.get(key)) or 0.0 for key in ("lr", "initial_lr", "max_lr")))
    momentum = max(as_number(values.get(key)) or 0.0 for key in ("momentum", "max_momentum"))
    nesterov, (loss, swings) = values.get("nesterov"), pace(values, lr * wd, momentum)
    if swings or (1.0 - loss) ** 2 <= momentum * (1.0 - lr * wd if nesterov else 1.0) * (1.0 + 1e-9):
        return None
    settled_at = (loss / lr - wd) / momentum if nesterov else loss / lr
    # A first step takes the gradient whole, without dampening.
    return max(wd, settled_at) / (1.0 - loss)


def is_under_way(pulled: Pulled) -> bool:
    """Whether the buffers of momentum hold what earlier steps took, which nobody can tell from gradients."""
    if pulled.optimizer is None or not pulled.gathers:
        return False
    states = (pulled.optimizer.state.get(param, {}) for param in pulled.values["params"])
    return any(state.get("momentum_buffer") is not None for state in states)
