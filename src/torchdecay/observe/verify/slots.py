"""The small tensors of a probe: where each parameter's lies, and all of one dtype read and written at once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchdecay.observe.verify.borrowing import small_shape
from torchdecay.sharding import local

_ALIGNMENT = 16


@dataclass(frozen=True)
class Slot:
    """Where one parameter's small tensor lies in a probe's vectors.

    Attributes:
        param: the parameter.
        group: index of its parameter group.
        shape: of the small tensor; of its local part where it is a DTensor.
        start: first index.
        stop: index after the last. A complex number takes two.
    """

    param: Tensor
    group: int
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def span(self) -> slice:
        """Its place in a vector."""
        return slice(self.start, self.stop)


class Pool:
    """The small tensors of one device and dtype: views into one tensor, so that all are read and written at once."""

    def __init__(self, device: torch.device, dtype: torch.dtype, start: int) -> None:
        self.device, self.dtype, self.start, self.stop = device, dtype, start, start
        self.num_reals = 2 if dtype.is_complex else 1
        self.slots: list[Slot] = []

    def allocate(self) -> None:
        """Make the tensors, now that all slots are known."""
        count = (self.stop - self.start) // self.num_reals
        self.weight = torch.zeros(count, dtype=self.dtype, device=self.device)
        self.gradient = torch.zeros_like(self.weight)
        self.views = [self._view(self.weight, slot) for slot in self.slots]
        self.gradient_views = [self._view(self.gradient, slot) for slot in self.slots]

    def fill(self, target: Tensor, vector: Tensor) -> None:
        """Copy the pool's part of a vector into its weights or gradients."""
        reals(target).copy_(vector[self.start : self.stop])

    def read_into(self, vector: Tensor) -> None:
        """Copy the weights into the pool's part of a vector."""
        vector[self.start : self.stop].copy_(reals(self.weight))

    def _view(self, flat: Tensor, slot: Slot) -> Tensor:
        begin, end = ((edge - self.start) // self.num_reals for edge in (slot.start, slot.stop))
        return flat[begin:end].view(slot.shape)


def pools_for(params: Iterable[tuple[Tensor, int]]) -> list[Pool]:
    """Give every parameter, with the index of its group, a place; those of one device and dtype lie side by side."""
    found: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, int]]] = {}
    for param, group in params:
        part = local(param)
        found.setdefault((part.device, part.dtype), []).append((param, group))
    pools, at = [], 0
    for (device, dtype), members in found.items():
        pool = Pool(device, dtype, at)
        for param, group in members:
            shape = small_shape(local(param).shape)
            numbers = pool.num_reals * math.prod(shape)
            pool.slots.append(Slot(param, group, shape, at, at + numbers))
            at += -(-numbers // _ALIGNMENT) * _ALIGNMENT
        pool.stop = pool.slots[-1].stop
        pools.append(pool)
    return pools


def reals(flat: Tensor) -> Tensor:
    """The numbers of a flat tensor, two for each complex one."""
    return torch.view_as_real(flat).view(-1) if flat.is_complex() else flat
