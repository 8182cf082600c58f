r"""Decay that lies in momentum from the steps before, followed on the sampled weights.

A coupled decay adds λw to the gradient, and momentum keeps of it what it keeps of any gradient:

$$m_\lambda \leftarrow \beta m_\lambda + (1 - \beta)\lambda w \quad (\text{SGD: } \mu m_\lambda + \lambda w)$$

Over the denominator that the optimizer really has, β·m_λ is what a step takes that earlier steps asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchdecay.apply.rounding import is_low
from torchdecay.observe.monitor.layout import Tracked
from torchdecay.observe.monitor.momentum import Momentum, momentum_of
from torchdecay.observe.monitor.samples import Batch


@dataclass(frozen=True, eq=False)
class _Held:
    """The momentum of decay after a step, and the weights before that."""

    carried: Tensor
    weights: Tensor
    step: int


class Carried:
    """The momentum of the decay of some batches, from step to step.

    Args:
        optimizer: whose.
        batches: of the layout.
        coefficient: λ of a tensor in the step that comes.
    """

    def __init__(self, optimizer: Optimizer, batches: Sequence[Batch], coefficient: Callable[[Tracked], float]) -> None:
        self._optimizer, self._coefficient = optimizer, coefficient
        found = ((batch, _momentum(batch.members[0])) for batch in batches)
        self._batches = [(batch, momentum) for batch, momentum in found if momentum is not None]
        self._longest = max((momentum.num_steps for _, momentum in self._batches), default=0)
        self._held: dict[int, _Held] = {}
        self._step = 0

    def is_due(self, step: int, steps_left: int) -> bool:
        """Whether the decay of the step that comes is to be taken in, so many steps before one with a record."""
        self._step = step
        # 1, 2, 4, 8 and so on before it: of what lies far back little is left, and weights go nearly straight.
        return 0 < steps_left < self._longest and not steps_left & (steps_left - 1)

    def next_due(self, steps_left: int) -> int:
        """How many steps before one with a record the next such step is; 0 where there is none."""
        least = min(steps_left, self._longest)
        return 1 << (least - 1).bit_length() - 1 if least > 1 else 0

    def follow(self) -> None:
        """Take the decay of the step that comes in, before weights move."""
        for batch, momentum in self._batches:
            weights = batch.kept([member.param for member in batch.members])
            self._take(batch, momentum, weights, self._step)

    @torch.no_grad()
    def entering(self, batch: Batch, weights: Tensor) -> Tensor | None:
        """What of the decay of earlier steps the momentum of this step has; None where nothing is followed.

        `weights` are the sample before the step, whose decay is then taken in.
        """
        momentum = next((one for own, one in self._batches if own is batch), None)
        if momentum is None:
            return None
        entering = torch.zeros_like(weights)
        if id(batch) in self._held or self._has_moved(batch, momentum):
            self._take(batch, momentum, weights, self._step - 1)
            entering = self._held[id(batch)].carried * momentum.kept
        self._take(batch, momentum, weights, self._step)
        return entering

    def _has_moved(self, batch: Batch, momentum: Momentum) -> bool:
        state = self._optimizer.state.get(batch.members[0].param, {})
        return isinstance(state.get(momentum.update.moment), Tensor)

    def _take(self, batch: Batch, momentum: Momentum, weights: Tensor, step: int) -> None:
        """Take the decay of the steps up to this one in, the weights having gone there from the last ones straight."""
        pull, held = self._coefficient(batch.members[0]), self._held.get(id(batch))
        own = weights.float() if is_low(weights) else weights
        if held is not None:
            steps = step - held.step
            if not steps:
                return
            left, begin, end = momentum.over(steps)
            carried = held.carried.mul_(left).add_(own, alpha=pull * end)
            if begin:
                carried.add_(held.weights, alpha=pull * begin)
        elif self._has_moved(batch, momentum):
            # What came before is not known; decay like this, as a rule.
            carried = own * (pull * momentum.at_rest)
        else:
            # SGD's buffer begins as the first gradient.
            carried = own * (pull * (1.0 if momentum.update.is_linear else momentum.added))
        self._held[id(batch)] = _Held(carried, own, step)


def _momentum(like: Tracked) -> Momentum | None:
    return momentum_of(like.pulled) if like.carries == "followed" else None
