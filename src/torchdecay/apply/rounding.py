"""Low precision: a shrink that bf16 or fp16 would round away is owed, and paid with stochastic rounding.

A bf16 weight times 1 − 1e-3 rounds back to itself, at every step, forever. So the shrink is kept as one number per
tensor until it is large enough to be seen, and then applied to a float32 copy that is rounded up or down at random,
in proportion to the distance: right on average, and not lost.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from torchdecay.apply.sharded import number

LOW_PRECISION = (torch.bfloat16, torch.float16)
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


def generator_for(name: str, turn: float, weights: Tensor) -> torch.Generator:
    """A generator seeded by parameter, turn and weights, so that a resumed run and a replica round alike.

    Steps begin anew with each optimizer and each attach, weights don't: by steps alone the same elements would be
    rounded up whenever a plan is attached for some steps and taken off again.
    """
    held = int(weights.detach().view(torch.int16).sum(dtype=torch.int64))
    seed = int.from_bytes(hashlib.sha256(f"{name}:{turn}:{held}".encode()).digest()[:8], "big") >> 1
    return torch.Generator(device=weights.device).manual_seed(seed)


def stochastic_round(exact: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Round float32 to bf16 or fp16, up with the probability that makes it right on average."""
    size = exact.abs()
    bits = exact.to(dtype).view(torch.int16)
    # Neighbors in size are neighbors as integers, the sign bit apart; begin at the one that is not larger.
    bits = bits - (bits.view(dtype).float().abs() > size).to(torch.int16)
    low, high = bits.view(dtype).float().abs(), (bits + 1).view(dtype).float().abs()
    chance = (size - low) / (high - low)
    drawn = torch.rand(exact.shape, generator=generator, dtype=exact.dtype, device=exact.device)
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
            typical = number(param.detach().float().square().mean().sqrt())
            self.units[name] = typical / number(torch.as_tensor(size, dtype=torch.float32).mean())
        return self.units[name]


def pay_(param: Tensor, name: str, turn: float, kernel: Callable[[Tensor], None]) -> None:
    """Run an in-place kernel on a float32 copy of a low-precision tensor and round the result at random."""
    exact = param.detach().float()
    kernel(exact)
    param.copy_(stochastic_round(exact, param.dtype, generator_for(name, turn, param)))
