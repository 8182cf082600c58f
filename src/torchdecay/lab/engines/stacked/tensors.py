"""The tensors of all members, stacked along the first dimension, and the rows that they see."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn


@dataclass(eq=False)
class Stack:
    """The weights of several members, every parameter and buffer by name, (members, ...), contiguous.

    All are computed through the modules of `model`, whose own weights are not used. `names` are the parameters that
    are trained, `seed_of` has for each member the index of its seed.
    """

    model: nn.Module
    params: dict[str, Tensor]
    buffers: dict[str, Tensor]
    names: tuple[str, ...]
    seed_of: list[int]

    @classmethod
    def of(cls, models: Sequence[nn.Module], seed_of: Sequence[int]) -> Stack:
        """Copies of the weights of `models`, one model for each seed, for members of these seeds."""
        first = models[0]
        params, buffers = [
            {name: torch.stack([tensors[seed][name].detach() for seed in seed_of]).contiguous() for name in tensors[0]}
            for tensors in (
                [dict(model.named_parameters()) for model in models],
                [dict(model.named_buffers()) for model in models],
            )
        ]
        names = tuple(name for name, param in first.named_parameters() if param.requires_grad)
        return cls(copy.deepcopy(first), params, buffers, names, list(seed_of))

    def __len__(self) -> int:
        return len(self.seed_of)

    def select(self, picked: Sequence[int]) -> None:
        """Keep these members only, in this order."""
        self.params = {name: rows_of(tensor, picked) for name, tensor in self.params.items()}
        self.buffers = {name: rows_of(tensor, picked) for name, tensor in self.buffers.items()}
        self.seed_of = [self.seed_of[member] for member in picked]


@dataclass(frozen=True, eq=False)
class Rows:
    """What every seed's members see: inputs and targets, (seeds, rows, ...)."""

    x: Tensor
    y: Tensor

    @classmethod
    def of(cls, pairs: Sequence[tuple[Tensor, Tensor]]) -> Rows:
        """Rows from each seed's pair; those of a single seed are not copied."""
        if len(pairs) == 1:
            return cls(pairs[0][0][None], pairs[0][1][None])
        return cls(torch.stack([x for x, _ in pairs]), torch.stack([y for _, y in pairs]))

    def inputs(self, seeds: Sequence[int]) -> Tensor:
        """Inputs of members of these seeds, (members, rows, ...); not copied where they agree."""
        return _of_members(self.x, tuple(seeds))

    def targets(self, seeds: Sequence[int]) -> Tensor:
        """Targets, likewise."""
        return _of_members(self.y, tuple(seeds))


def _of_members(tensor: Tensor, seeds: tuple[int, ...]) -> Tensor:
    if len(set(seeds)) == 1:
        return tensor[seeds[0]].expand(len(seeds), *tensor.shape[1:])
    return tensor.index_select(0, _index(seeds, tensor.device))


@lru_cache(maxsize=64)
def _index(places: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(places, dtype=torch.int64, device=device)


def rows_of(tensor: Tensor, picked: Sequence[int]) -> Tensor:
    """Some entries along the first dimension, copied."""
    return tensor.detach()[torch.tensor(picked, dtype=torch.int64, device=tensor.device)]


def norms_of(tensors: Sequence[Tensor]) -> list[float]:
    """For each member ‖·‖ over all tensors, summed in float64."""
    norms = []
    for tensor in tensors:
        flat = tensor.detach().flatten(1)
        # Some members at a time, because a norm in float64 first copies what it is of.
        parts = torch.split(flat, max(1, (1 << 20) // max(1, flat.shape[1])))
        norms.append(torch.cat([torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in parts]))
    return torch.linalg.vector_norm(torch.stack(norms), dim=0).tolist() if norms else []
