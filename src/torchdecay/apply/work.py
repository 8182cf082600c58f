"""What one step has to do, as values that the engine, the passes and the runtimes hand to one another.

Five words say how hard something pulls, here and in every file of this room:

| word | means |
|---|---|
| coefficient | λ_t: the decay's own number times its schedule, at this step |
| amount | c_t·λ_t: the coefficient times the scale, what θ ← θ − amount·∇R(θ) is taken with |
| multiplier | what a controller multiplies the amount of one tensor by, in this step |
| fraction | the part of each weight that L2 takes off in one step: its amount, or amount/(1 + amount) if proximal |
| pull | one decay over some parameters of one group, with the tensors that it reads; with a step's amount, a work |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any, TypeVar

import torch
from torch import Tensor

from torchdecay.apply.rounding import is_low
from torchdecay.optimizers.gradients import grad_of
from torchdecay.plans.decay import Decay

Amount = float | Tensor
T = TypeVar("T")
_Row = TypeVar("_Row", bound=tuple[Any, Any, Any])


@contextmanager
def lasting() -> Iterator[None]:
    """Of what is made here to stay: in inference mode it could never be written to outside of it."""
    with torch.inference_mode(False), torch.no_grad():
        yield


@dataclass(frozen=True)
class Cost:
    """What the decay of one parameter costs beside the optimizer's own step, in bytes.

    Attributes:
        held: what is kept from step to step: a copy of the weights to be pulled toward, a mask.
        moved: what a pass reads and writes at each step, at the least; 0 where the optimizer's own kernel decays, and
            where the loss does.
    """

    held: int = 0
    moved: int = 0


@dataclass
class Target:
    """One parameter under a decay, with what its pull reads: None is a reference of 0, a mask of all, weights of 1.

    A mask is of bools, and weights are numbers that each element's pull is multiplied by.
    """

    name: str
    param: Tensor
    held: Tensor | None
    mask: Tensor | None
    weights: Tensor | None = None

    @property
    def reference(self) -> Tensor | None:
        """What it is pulled toward, moved along where the model was moved or cast after attach.

        What is in float32 stays so beside low precision, in which an average would not move.
        """
        held, param = self.held, self.param
        if held is None or (held.dtype == param.dtype and held.device == param.device):
            return held
        dtype = held.dtype if is_low(param) and held.dtype == torch.float32 else param.dtype
        if (held.device, held.dtype) != (param.device, dtype):
            with lasting():
                self.held = held.to(device=param.device, dtype=dtype)
        return self.held

    @property
    def grad(self) -> Tensor:
        """The gradient, as the optimizer is given it."""
        return grad_of(self.param)


def numbers_of(vector: Tensor) -> list[Amount]:
    """The numbers of a vector: on a CPU as Python's own, which cost less to make and to multiply by."""
    found: list[Amount] = vector.tolist() if vector.device.type == "cpu" else list(vector.unbind())
    return found


def together(items: Iterable[T], key: Callable[[T], object]) -> list[list[T]]:
    """The items, those with the same key together, in the order of the first of each."""
    found: dict[object, list[T]] = {}
    kept = list(items)
    keys = list(map(key, kept))
    if len(set(keys)) == 1:
        return [kept]
    for item, its_key in zip(kept, keys, strict=True):
        found.setdefault(its_key, []).append(item)
    return list(found.values())


_KIND = attrgetter("device", "dtype")


def buckets(params: Iterable[Tensor]) -> list[list[int]]:
    """Places of the parameters, grouped so that each group may go through one foreach kernel."""
    params = list(params)
    kinds = list(zip(map(_KIND, params), map(type, params), strict=True))
    return together(range(len(params)), kinds.__getitem__)


@dataclass
class Pull:
    """One decay over some parameters of one group; `heaviest` is the largest of their weights."""

    decay: Decay
    targets: list[Target]
    heaviest: float = 1.0
    _kinds: list[Any] = field(default_factory=list, repr=False)
    _buckets: list[list[int]] = field(default_factory=list, repr=False)

    @cached_property
    def is_weighted(self) -> bool:
        """Whether some elements weigh more than others."""
        return any(one.weights is not None for one in self.targets)

    def live(self) -> list[Target]:
        """What this step moves: parameters with a gradient that still ask for one; mostly `targets` itself."""
        found = [one for one in self.targets if (param := one.param).grad is not None and param.requires_grad]
        return self.targets if len(found) == len(self.targets) else found

    def buckets(self, targets: Sequence[Target]) -> list[list[int]]:
        """Places of the targets, grouped by device, dtype and tensor type; found once for all of them."""
        params = [one.param for one in targets]
        if targets is not self.targets:
            return buckets(params)
        if (kinds := list(map(_KIND, params))) != self._kinds:
            self._kinds, self._buckets = kinds, buckets(params)
        return self._buckets


@dataclass
class Work:
    """A pull with this step's numbers."""

    pull: Pull
    group: dict[str, Any]
    targets: Sequence[Target]
    amount: Amount
    steps: int = 0
    multipliers: list[Amount] | Tensor | None = field(default=None, repr=False)

    def multiply(self, by: Callable[[Target], Amount]) -> None:
        """Set the multiplier of each target."""
        self.multipliers = [by(one) for one in self.targets]

    @property
    def amounts(self) -> list[Amount]:
        """Amount · multiplier for each target, · its weights; the very same number where all have one."""
        plain = self._plain_amounts()
        if not self.pull.is_weighted:
            return plain
        weights = [one.weights for one in self.targets]
        return [a if by is None else by * a for a, by in zip(plain, weights, strict=True)]

    def _plain_amounts(self) -> list[Amount]:
        found = self.multipliers
        if found is None:
            return [self.amount] * len(self.targets)
        if isinstance(found, Tensor):
            return numbers_of(self.amount * found)
        if found and all(one is found[0] for one in found):
            return [self.amount * found[0]] * len(found)
        if isinstance(self.amount, float) and all(isinstance(one, Tensor) and one.dim() for one in found):
            return list(torch._foreach_mul([one for one in found if isinstance(one, Tensor)], self.amount))
        return [self.amount * multiplier for multiplier in found]


def by_decay(rows: Iterable[_Row]) -> list[tuple[Any, list[_Row]]]:
    """Rows of (parameter, name, decay), those with equal decays together, in the order of the first of each."""
    found: dict[Decay | None, list[_Row]] = {}
    # Most rows share one Decay, whose hash is worked out once.
    known: dict[int, list[_Row]] = {}
    for row in rows:
        alike = known.get(id(row[2]))
        if alike is None:
            alike = known[id(row[2])] = found.setdefault(row[2], [])
        alike.append(row)
    return list(found.items())
