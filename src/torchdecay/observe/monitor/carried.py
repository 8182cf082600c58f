r"""Decay that lies in momentum from the steps before, followed on the sampled weights.

A coupled decay adds λw to the gradient, and momentum keeps of it what it keeps of any gradient:

$$m_\lambda \leftarrow \beta m_\lambda + (1 - \beta)\lambda w \quad (\text{SGD: } \mu m_\lambda + \lambda w)$$

Over the denominator that the optimizer really has, β·m_λ is what a step takes that earlier steps asked for. RMSprop
divides before its momentum: there λw/(√v + ε) is added, v as that step leaves it.

m_λ is kept as a mean of weights times a number, so that a step costs one `_foreach_lerp_`. Where that takes more than
its share of the time, each k-th step stands for k, those around it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchdecay.apply.rounding import is_low
from torchdecay.observe.monitor.budget import FOLLOWING, Budget
from torchdecay.observe.monitor.layout import Tracked
from torchdecay.observe.monitor.momentum import FORGOTTEN, PRESSED, Momentum, momentum_of
from torchdecay.observe.monitor.samples import Batch, strided
from torchdecay.sharding import local


class Carried:
    """The momentum of the decay of some batches, from step to step.

    Args:
        optimizer: whose.
        batches: of the layout.
        coefficient: λ of a tensor in the step that comes.
        budget: of the monitor.

    Attributes:
        every: at each how manyth step it was followed, up to the record of now.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        batches: Sequence[Batch],
        coefficient: Callable[[Tracked], float],
        budget: Budget,
    ) -> None:
        self._coefficient, self._budget = coefficient, budget
        known = ((one, momentum_of(one.members[0].pulled)) for one in batches if one.members[0].carries == "followed")
        self._followed = {
            id(batch): _Followed(optimizer, batch, momentum) for batch, momentum in known if momentum is not None
        }
        longest = max((one.momentum for one in self._followed.values()), key=lambda one: one.kept, default=None)
        self._longest = (0, 0) if longest is None else (longest.steps_until(FORGOTTEN), longest.steps_until(PRESSED))
        self.every = self._stride = 1
        self._span = self._longest[0]
        self._step = self._last = self._count = 0
        self._took, self._since = 0.0, time.perf_counter()

    def is_due(self, step: int, steps_left: int) -> bool:
        """Whether the decay of the step that comes is to be taken in, so many steps before one with a record."""
        self._step = step
        if not steps_left and self._followed:
            self._pace()
        return 0 < steps_left <= self._span and (steps_left - 1) % self._stride == self._stride // 2

    def next_due(self, steps_left: int) -> int:
        """How many steps before one with a record the next such step is; 0 where there is none."""
        at, last = min(steps_left - 1, self._span), 1 + self._stride // 2
        return at - (at - last) % self._stride if at >= last else 0

    def follow(self) -> None:
        """Take the decay of the step that comes in, before weights move, and of those beside it that it stands for."""
        begin, up_to = time.perf_counter(), self._step + self._stride // 2
        _lerp([one.due(self._coefficient(one.batch.members[0]), up_to) for one in self._followed.values()])
        took = time.perf_counter() - begin
        self._took, self._count = self._took + took, self._count + 1
        self._budget.follow(took)

    def interrupt(self, why: str) -> None:
        """Steps went otherwise than they were followed."""
        for one in self._followed.values():
            one.interrupted = why

    def lost(self, batch: Batch) -> str:
        """Why nobody knows what momentum has of the decay of earlier steps, or "": then it is begun anew."""
        one = self._followed.get(id(batch))
        return "" if one is None else one.lost()

    @torch.no_grad()
    def entering(self, batch: Batch) -> Tensor | None:
        """What of the decay of earlier steps the momentum of this step has; None where nothing is followed.

        The decay of this step is then taken in.
        """
        one = self._followed.get(id(batch))
        if one is None:
            return None
        pull = self._coefficient(batch.members[0])
        entering = one.entering(pull, self._step)
        self.every = max(self.every, one.unseen + 1)
        _lerp([one.due(pull, self._step)])
        return entering

    def _pace(self) -> None:
        """Follow so many of the steps to the next record as there is time for, by what they took up to this one."""
        now, self.every = time.perf_counter(), self._stride
        steps, seconds = self._step - self._last, now - self._since
        if self._count and not self._budget.is_free:
            most = FOLLOWING * seconds * self._count / self._took
            self._span, pressed = self._longest
            if most < min(steps, self._span):
                # What lies far back counts for little, and near steps for most.
                self._span = max(pressed, min(self._span, int(most)))
            self._stride = min(math.ceil(min(steps, self._span) / max(1.0, most)), self._span) | 1
        self._last, self._since, self._took, self._count = self._step, now, 0.0, 0


_Due = tuple[float, list[Tensor], list[Tensor]]
"""Means, and how much of them is to be of other weights."""


def _lerp(dues: Sequence[_Due]) -> None:
    alike: dict[tuple[Any, ...], tuple[list[Tensor], list[Tensor]]] = {}
    for share, own, others in dues:
        if share:
            means, weights = alike.setdefault((share, own[0].dtype, own[0].device), ([], []))
            means += own
            weights += others
    for (share, *_), (means, weights) in alike.items():
        torch._foreach_lerp_(means, weights, share)


class _Followed:
    """The momentum of the decay of one batch: `scale` times `means`, with all decay up to a step in it."""

    def __init__(self, optimizer: Optimizer, batch: Batch, momentum: Momentum) -> None:
        self._optimizer, self.batch, self.momentum = optimizer, batch, momentum
        self.means: list[Tensor] = []
        self.scale, self.up_to, self.unseen, self.interrupted = 0.0, 0, 0, ""
        self._views: list[Tensor] = []
        self._at: list[int] = []
        self._moments: list[Any] = []
        # What RMSprop will divide by stands in its state after the step.
        self._waiting: tuple[list[Tensor], float, int] | None = None

    def lost(self) -> str:
        """Why nobody knows what the momentum has, or ""."""
        moments, why, self.interrupted = self._moments_now(), self.interrupted, ""
        if self.means and self._at != self._addresses():
            why = "its weights were replaced since the record before, by a cast or a hand"
        pairs = zip(self._moments, moments, strict=False)
        if any(was is not None and now is not None and was is not now for was, now in pairs):
            why = "its state was replaced since the record before, by a checkpoint or a hand"
        if why or not self._has_moved():
            self.means, self._views, self._waiting = [], [], None
        self._moments = moments
        return f"what momentum carries is not known: {why}" if why else ""

    def due(self, pull: float, up_to: int) -> _Due:
        """What takes the weights of now in, for all steps up to one for which none were."""
        if not self.means:
            self._begin(pull, up_to)
            return 0.0, [], []
        weights = self._weights()
        if self.momentum.update.divisor_of is None:
            return self._share(pull, up_to), self.means, weights
        due = self._flushed()
        self._waiting = [one.clone() for one in weights], pull, up_to
        return due

    def entering(self, pull: float, step: int) -> Tensor:
        """What of the decay before a step its momentum has."""
        if not self.means and not self._has_moved():
            weights = self.batch.kept([member.param for member in self.batch.members])
            return torch.zeros_like(weights)
        if not self.means:
            self._begin(pull, step - 1)
        _lerp([self._flushed()])
        self.unseen = max(0, step - 1 - self.up_to)
        if self.unseen:
            _lerp([(self._share(pull, step - 1), self.means, self._divided(self._weights()))])
        return torch.cat([one.reshape(-1) for one in self.means]).mul_(self.scale * self.momentum.kept)

    def _begin(self, pull: float, up_to: int) -> None:
        momentum = self.momentum
        views, params = self._read(), [local(member.param) for member in self.batch.members]
        pairs = zip(views, params, strict=True)
        are_views = all(a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr() for a, b in pairs)
        self._views, self._at, self._moments = views if are_views else [], self._addresses(), self._moments_now()
        weights = [one.clone() for one in self._weights()]
        self.up_to = up_to
        if self._has_moved():
            # What came before is not known; decay like this, as a rule.
            self.means, self.scale = self._divided(weights), pull * momentum.at_rest
        elif momentum.update.divisor_of is None:
            # SGD's buffer begins as the first gradient.
            self.means, self.scale = weights, pull * (1.0 if momentum.update.is_linear else momentum.added)
        else:
            self.means, self.scale, self.up_to = [one.clone() for one in weights], 0.0, up_to - 1
            self._waiting = weights, pull, up_to

    def _flushed(self) -> _Due:
        if self._waiting is None:
            return 0.0, [], []
        (weights, pull, up_to), self._waiting = self._waiting, None
        return self._share(pull, up_to), self.means, self._divided(weights)

    def _share(self, pull: float, up_to: int) -> float:
        """How much of the mean is of the weights of some steps, up to one; 0 where there is none."""
        if up_to <= self.up_to:
            return 0.0
        left, total = self.momentum.over(up_to - self.up_to)
        self.up_to, added = up_to, pull * total
        self.scale = self.scale * left + added
        return added / self.scale if self.scale else 1.0

    def _divided(self, weights: list[Tensor]) -> list[Tensor]:
        divisor_of = self.momentum.update.divisor_of
        if divisor_of is None:
            return weights
        made = []
        for member, weight in zip(self.batch.members, weights, strict=True):
            state = self._optimizer.state[member.param]
            sampled = {
                name: strided(value, self.batch.most_of_each)
                for name, value in state.items()
                if isinstance(value, Tensor) and value.dim()
            }
            made.append(weight / divisor_of(self._optimizer.param_groups[member.group], sampled))
        return made

    def _weights(self) -> list[Tensor]:
        views = self._views or self._read()
        return [one.float() for one in views] if is_low(views[0]) else views

    def _read(self) -> list[Tensor]:
        """Samples of the weights, which move along with them where all are views."""
        return [strided(member.param, self.batch.most_of_each) for member in self.batch.members]

    def _addresses(self) -> list[int]:
        return [local(member.param).data_ptr() for member in self.batch.members]

    def _has_moved(self) -> bool:
        return any(one is not None for one in self._moments_now())

    def _moments_now(self) -> list[Any]:
        name = self.momentum.update.moment
        return [self._optimizer.state.get(member.param, {}).get(name) for member in self.batch.members]
