"""Low precision: a shrink that bf16 or fp16 would round away is owed, and paid with stochastic rounding.

A bf16 weight times 1 − 1e-3 rounds back to itself, at every step, forever. So the shrink is kept as one number per
tensor until it is large enough to be seen, and then applied to a float32 copy that is rounded up or down at random,
in proportion to the distance: right on average, and not lost.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from torchdecay.sharding import local, over_ranks, places

LOW_PRECISION = (torch.bfloat16, torch.float16)
_WORD = 0xFFFFFFFF
_PIECE = 1 << 20
DUE = 2.0**-8
"""A shrink of this size is applied: half a unit in bf16's last place."""
DUE_ADDED = 2.0**-12
"""A displacement of this size is applied, in units of a typical weight; smaller, because what is still owed when
training ends is missing from the sum of displacements, while a shrink loses only a fraction of a fraction."""


_LEFT: MutableMapping[Tensor, list[float | None]] = WeakTensorKeyDictionary()
"""What tensors owed when their plan was removed."""


def is_low(tensor: Tensor) -> bool:
    """Whether weights of this dtype lose small displacements."""
    return tensor.dtype in LOW_PRECISION


def key_for(name: str, turn: float, weights: Tensor) -> int:
    """What the draws of one payment go by: parameter, turn and weights, the same on every rank.

    Steps begin anew with each optimizer and each attach, weights don't: by steps alone the same elements would be
    rounded up whenever a plan is attached for some steps and taken off again.
    """
    held = int(over_ranks(local(weights.detach()).view(torch.int16).sum(dtype=torch.int64), weights))
    return int.from_bytes(hashlib.sha256(f"{name}:{turn}:{held}".encode()).digest()[:8], "big") >> 1


def drawn_at(key: int, index: Tensor) -> Tensor:
    """A number from [0, 1) for each place, of 24 bits, that depends on nothing else: a part draws as the whole does."""
    high = index >> 32
    mixed = _mixed((index & _WORD) + (key & _WORD))
    return (_mixed(mixed + _mixed(high + (key >> 32))) >> 8).float() * 2.0**-24


def _mixed(x: Tensor) -> Tensor:
    """A hash of 32 bits (Chris Wellons, "Prospecting for Hash Functions": lowbias32), in the low half of an int64."""
    x = x & _WORD
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ((x ^ (x >> shift)) * factor) & _WORD
    return x ^ (x >> 16)


def draws_for(key: int, param: Tensor, shape: Sequence[int]) -> Tensor:
    """The draws for the elements of a parameter, or of its part here where that is what has the shape."""
    count = math.prod(shape)
    held = None if tuple(shape) == tuple(param.shape) else places(param)
    drawn = torch.empty(count, dtype=torch.float32, device=param.device)
    # By parts: integers of all the places would be four times the weights.
    for start in range(0, count, _PIECE):
        index = torch.arange(start, min(start + _PIECE, count), device=param.device)
        if held is not None:
            index = _in_whole(index, held, param.shape)
        drawn[start : start + _PIECE] = drawn_at(key, index)
    return drawn.view(shape)


def _in_whole(index: Tensor, held: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Places in a part → places in the whole, of which the part has some entries along each dimension."""
    found, here, there = torch.zeros_like(index), 1, 1
    for along, full in zip(reversed(held), reversed(shape), strict=True):
        found += along[index // here % len(along)] * there
        here, there = here * len(along), there * full
    return found


def stochastic_round(exact: Tensor, dtype: torch.dtype, drawn: Tensor) -> Tensor:
    """Round float32 to bf16 or fp16, up with the probability that makes it right on average, where that was drawn."""
    size = exact.abs()
    bits = exact.to(dtype).view(torch.int16)
    # Neighbors in size are neighbors as integers, the sign bit apart; begin at the one that is not larger.
    bits = bits - (bits.view(dtype).float().abs() > size).to(torch.int16)
    low, high = bits.view(dtype).float().abs(), (bits + 1).view(dtype).float().abs()
    chance = (size - low) / (high - low)
    rounded = (bits + (drawn < chance).to(torch.int16)).view(dtype)
    return torch.where(torch.isfinite(exact), rounded, exact.to(dtype))


class Debts:
    """What each low-precision tensor still owes, by parameter name: log-shrinks, and displacements.

    `units` holds what a displacement is measured against where it is not a fraction of each weight: the typical size
    of the tensor's weights, as it was when it last paid. `spans` counts the plans that were on the tensor before.
    """

    def __init__(self) -> None:
        self.owed: dict[str, float] = {}
        self.added: dict[str, float] = {}
        self.units: dict[str, float] = {}
        self.spans: dict[str, float] = {}

    def scalars(self) -> dict[str, dict[str, float]]:
        """What has to survive a checkpoint."""
        return {key: dict(getattr(self, key)) for key in ("owed", "added", "units", "spans")}

    def load(self, scalars: Mapping[str, Any]) -> None:
        """Take over what `scalars` gave."""
        self.owed, self.added, self.units, self.spans = (dict(scalars[key]) for key in self.scalars())

    def leave(self, params: Mapping[str, Tensor]) -> None:
        """Leave what is owed to the plan that comes next on the same tensors."""
        for name, param in params.items():
            if is_low(param):
                self.spans[name] = self.spans.get(name, 0.0) + 1
            _LEFT[param] = [held.get(name) for held in self.scalars().values()]

    def take(self, params: Mapping[str, Tensor]) -> None:
        """Take what the plan before has left."""
        for name, param in params.items():
            for held, value in zip((self.owed, self.added, self.units, self.spans), _LEFT.pop(param, ()), strict=False):
                if value is not None:
                    held[name] = value

    def due(self, name: str, param: Tensor, fraction: Any) -> Any:
        """The fraction that a step takes: of low precision what is due, of what was cast since what it owed as well."""
        if is_low(param):
            return self.shrink(name, float(fraction))
        owed = self.owed.pop(name, 0.0)
        return fraction if not owed else 1 - (1 - fraction) * math.exp(owed)

    def strength(self, name: str, tau: Any) -> Any:
        """The same of a proximal step, which divides by 1 + τ; what was owed as a displacement is part of it."""
        return (1 + tau) * math.exp(-self.owed.pop(name, 0.0)) - 1 + self.added.pop(name, 0.0)

    def settle(self, params: Mapping[str, Tensor]) -> None:
        """Pay what tensors still owe that were cast since, and that no pass pulls now."""
        for name, param in params.items():
            if name in self.owed and not is_low(param):
                with torch.no_grad():
                    param.mul_(math.exp(self.owed.pop(name)))

    def turn(self, name: str, step: int) -> float:
        """What tells one payment of a tensor from another: the step, and the plan that it is a step of."""
        return step + self.spans.get(name, 0.0) * 2.0**32

    def shrink(self, name: str, fraction: float) -> float:
        """Add a fraction to the debt as a log-shrink; the fraction that is due now, 0 while it is too small."""
        if fraction >= 1:
            self.owed[name] = 0.0
            return fraction
        owed = self.owed.get(name, 0.0) + math.log1p(-fraction)
        due = abs(owed) >= DUE
        self.owed[name] = 0.0 if due else owed
        return -math.expm1(owed) if due else 0.0

    def add(self, name: str, amount: float, unit: float) -> float:
        """Add an amount to the debt; all of it once it reaches `DUE_ADDED` units, 0 before."""
        owed = self.added.get(name, 0.0) + amount
        due = owed >= DUE_ADDED * unit
        self.added[name] = 0.0 if due else owed
        if due:
            self.units.pop(name, None)
        return owed if due else 0.0

    def unit(self, name: str, param: Tensor, size: float | Tensor) -> float:
        """The weights' root mean square, over the mean size of a step."""
        if name not in self.units:
            part = local(param.detach())
            sums = [part.float().square().sum(), torch.as_tensor(size, device=part.device).expand(part.shape).sum()]
            squares, sizes = (over_ranks(torch.stack([one.float() for one in sums]), param) / param.numel()).tolist()
            self.units[name] = math.sqrt(squares) / sizes
        return self.units[name]


def pay_(param: Tensor, name: str, turn: float, kernel: Callable[[Tensor], Any], *, part: Tensor | None = None) -> None:
    """Run an in-place kernel on a float32 copy of a low-precision tensor and round the result at random.

    Args:
        param: the parameter.
        name: its name.
        turn: what tells one payment from another.
        kernel: what is run.
        part: of the parameter what the kernel sees: what is here, which is the default, or all of it.
    """
    part = local(param.detach()) if part is None else part
    exact = part.float()
    kernel(exact)
    part.copy_(stochastic_round(exact, part.dtype, draws_for(key_for(name, turn, param), param, exact.shape)))
