"""Elements of tensors that belong together, those of many small ones in one piece, and sums over them.

All of a small tensor, a spread of runs of a large one; sums are added up over the ranks that hold parts, and read
from the device at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors
from torch.nn import Parameter

from torchdecay.observe.groups import DECAY_NAMES
from torchdecay.observe.monitor.layout import Tracked
from torchdecay.sharding import aligned, cuts, is_flat_part, local

RUN = 256
"""Elements of each run: long enough to be read quickly, short enough that rows of an embedding are hit fairly."""
_flat: Callable[[Sequence[Tensor]], Tensor] = _flatten_dense_tensors
SHADOWED = 1 << 12
"""Elements of each tensor whose copies take a step where a rule works element by element."""
_PIECE = 1 << 17
"""Elements of small tensors that are in one piece: enough that calls do not show, few enough to stay in cache."""


def sampled(tensor: Tensor, most: int | None) -> Tensor:
    """Elements of this process's part of a tensor, in one dimension; a view where that can be.

    Tensors of one shape give elements at the same places, whatever their memory looks like: about `most`, None is all.
    """
    return strided(tensor, most).reshape(-1)


def strided(tensor: Tensor, most: int | None) -> Tensor:
    """The same in the dimensions that they have in memory: a view of all tensors without gaps there."""
    part = local(tensor).detach()
    if part.is_complex():
        part = torch.view_as_real(part)
    flat = part.reshape(-1)
    count = flat.numel()
    if most is None or count <= most:
        return flat
    runs = max(1, most // RUN)
    # The last run ends within the tensor, because a run is shorter than the distance between two.
    return flat.as_strided((runs, RUN), (count // runs, 1), flat.storage_offset())


def wide(tensor: Tensor) -> Tensor:
    """In float64, where the device has it."""
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


@dataclass(eq=False)
class Batch:
    """Tensors that are pulled and measured alike: one that is large or odd, or small ones, of which samples are all.

    Attributes:
        members: the tensors.
        places: where they stand in the layout.
        counts: elements of each sample.
        most: elements of each sample, about; None is all.
        is_part: whether samples may be parts of their tensors.
    """

    members: list[Tracked]
    places: list[int]
    counts: list[int]
    most: int | None = None
    is_part: bool = False

    @cached_property
    def groups(self) -> list[int]:
        """Of which groups the members are."""
        return [*dict.fromkeys(member.group for member in self.members)]

    @property
    def most_of_each(self) -> int | None:
        """About how many elements of each member its sample has; None is all."""
        return self.most if self.is_part or len(self.members) == 1 else None

    def read(self, tensors: Sequence[Tensor]) -> Tensor:
        """Samples of tensors that have the shapes of the members, one behind the other; a view of one tensor alone."""
        if len(tensors) == 1:
            return sampled(tensors[0], self.most)
        return _flat([sampled(one, self.most) for one in tensors] if self.is_part else tensors)

    def kept(self, tensors: Sequence[Tensor]) -> Tensor:
        """The same as a new tensor."""
        samples = self.read(tensors)
        return samples.clone() if len(tensors) == 1 else samples

    def split(self, keys: Sequence[Hashable]) -> list[list[int]]:
        """The rows that have one key each, in order; one list of all where they are alike."""
        found: dict[Hashable, list[int]] = {}
        for row, key in enumerate(keys):
            found.setdefault(key, []).append(row)
        return list(found.values())

    def picked(self, rows: Sequence[int]) -> Batch:
        """Some of the members."""
        members, places, counts = ([own[row] for row in rows] for own in (self.members, self.places, self.counts))
        return Batch(members, places, counts, self.most, self.is_part)  # type: ignore[arg-type]

    def picked_of(self, samples: Tensor, rows: Sequence[int]) -> Tensor:
        """The samples of some of the members."""
        parts = torch.split(samples, self.counts)
        return torch.cat([parts[row] for row in rows])


def batches(members: Sequence[Tracked], most: int | None) -> list[Batch]:
    """All members in batches, each once."""
    made: list[Batch] = []
    small: dict[Hashable, list[tuple[int, int]]] = {}
    for place, member in enumerate(members):
        param = member.param
        count = sampled(param, _most_of(member, most)).numel()
        if _is_small(param, most):
            key = (param.device, param.dtype, member.source, _alike(member))
            small.setdefault(key, []).append((count, place))
        else:
            made.append(Batch([member], [place], [count], _most_of(member, most), is_part=True))
    for alike in small.values():
        # Of one size side by side, so that sums over many are one product of matrices.
        alike.sort()
        total, piece = 0, list[tuple[int, int]]()
        pieces = [piece]
        for count, place in alike:
            if total + count > _PIECE:
                total, piece = 0, []
                pieces.append(piece)
            total += count
            piece.append((count, place))
        for one in filter(None, pieces):
            own = [members[place] for _, place in one]
            is_part = any(local(member.param).numel() > count for member, (count, _) in zip(own, one, strict=True))
            at, counts = [place for _, place in one], [count for count, _ in one]
            made.append(Batch(own, at, counts, _most_of(own[0], most), is_part))
    return made


def _alike(member: Tracked) -> Hashable:
    """What the members of a batch have in common: where their state tells the update, no more than its options."""
    if member.source != "state":
        return member.pulled
    return options_of(member.pulled.optimizer, member.pulled.values), member.counts_zeros, member.is_cautious


def options_of(optimizer: Any, group: Mapping[str, Any]) -> tuple[Hashable, ...]:
    """The options that an update follows, by which groups are alike that differ in their decay."""
    plain = (bool, int, float, str, tuple, type(None))
    values = (group.get(name) for name in optimizer.defaults if name not in DECAY_NAMES)
    return tuple(value if isinstance(value, plain) else id(value) for value in values)


def _most_of(member: Tracked, most: int | None) -> int | None:
    """Of what takes steps on copies, and is followed from step to step, a part tells as much."""
    return most if most is None or member.source != "shadow" else min(most, SHADOWED)


def _is_small(param: Tensor, most: int | None) -> bool:
    if type(param) not in (Tensor, Parameter) or param.layout is not torch.strided or param.is_complex():
        return False
    if is_flat_part(param):
        # By size they would stand in another order on each process.
        return False
    return param.numel() <= (_PIECE if most is None else min(most, _PIECE))


def products(vectors: Iterable[Tensor], counts: Sequence[int]) -> Tensor:
    """⟨a, b⟩ of each two vectors over each of the parts that they are made of: parts x vectors x vectors."""
    stacked = torch.stack([*vectors])
    made, begin = [], 0
    for count, alike in groupby(counts):
        times = len([*alike])
        part = stacked[:, begin : begin + times * count]
        if times == 1:
            made.append(torch.mm(part, part.t()).unsqueeze(0))
        else:
            part = part.reshape(len(stacked), times, count).transpose(0, 1)
            made.append(part @ part.mT)
        begin += times * count
    return made[0] if len(made) == 1 else torch.cat(made)


def over_ranks(tables: Sequence[Tensor], params: Sequence[Tensor]) -> list[list[list[float]]]:
    """Tables of sums as numbers; those of a part are summed over all who hold parts.

    Every rank has to call this with tables of the same shapes in the same order. `params` has one tensor for each.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for place, (table, param) in enumerate(zip(tables, params, strict=True)):
        alike.setdefault((table.device, table.shape[1], *cuts(param)), []).append(place)
    told: list[list[list[float]]] = [[] for _ in tables]
    for (_, _, *groups), places in alike.items():
        stacked = torch.cat([tables[place] for place in places])
        for group in groups:
            torch.distributed.all_reduce(stacked, group=group)
        numbers = iter(stacked.tolist())
        for place in places:
            told[place] = [next(numbers) for _ in range(len(tables[place]))]
    return told


def gradient_of(param: Tensor) -> Tensor | None:
    """The gradient that an optimizer would use, of a DTensor this process's part; None without one."""
    gradient = param.grad
    if gradient is None and is_flat_part(param) and not param.numel():
        # Of a part without elements FSDP1 has none, where others have theirs.
        gradient = torch.zeros_like(param)
    if gradient is None or not param.requires_grad:
        return None
    if type(param) in (Parameter, Tensor) or gradient.is_sparse:
        return gradient
    return local(aligned(gradient, param)).detach()
