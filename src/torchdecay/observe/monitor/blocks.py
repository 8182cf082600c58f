"""Records as columns of numbers: those of the same groups in one block, a `Record` being made when it is asked for."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import repeat
from typing import Any, overload

import torch
from torch import Tensor

from torchdecay.observe.monitor.columns import is_empty
from torchdecay.observe.monitor.series import Record

_DTYPES = {"f": torch.float32, "q": torch.int64}


class Block:
    """Records of the same groups, a row each.

    Attributes:
        first: place of the first group in `History.series`.
        count: how many groups.
        at: the places of the records among all records.
        steps: of the records.
        columns: quantity → `count` numbers for each record, NaN where nothing is known.
        unmeasured: row → why decay could not be measured there, for rows that have something to say.
    """

    __slots__ = ("at", "columns", "count", "first", "steps", "unmeasured")

    def __init__(self, first: int, count: int) -> None:
        self.first, self.count = first, count
        self.at: array[Any] = array("q")
        self.steps: array[Any] = array("q")
        self.columns: dict[str, array[Any]] = {}
        self.unmeasured: dict[int, Mapping[str, str]] = {}

    def __len__(self) -> int:
        return len(self.at)

    def extend(self, at: Iterable[int], steps: Iterable[int], columns: Mapping[str, bytes]) -> None:
        """Some rows more; what their columns lack is NaN there, and what only they have is NaN before."""
        before = len(self)
        self.steps.extend(steps)
        # In their order, as the first one is in every record.
        self.columns |= {name: _unknown(before * self.count) for name in columns if name not in self.columns}
        more = _unknown((len(self.steps) - before) * self.count)
        for name, column in self.columns.items():
            if name in columns:
                column.frombytes(columns[name])
            else:
                column.extend(more)
        # Last, because rows are as many as these, for another thread that copies them meanwhile.
        self.at.extend(at)

    def copy(self, until: int) -> Block:
        """What there is of the first so many records."""
        made, size = Block(self.first, self.count), bisect_left(self.at, until)
        made.at, made.steps = self.at[:size], self.steps[:size]
        made.columns = {name: column[: size * self.count] for name, column in [*self.columns.items()]}
        made.unmeasured = {row: why for row, why in [*self.unmeasured.items()] if row < size}
        return made._pruned()

    def _pruned(self) -> Block:
        """Itself without columns that have no number, but for the first."""
        first = next(iter(self.columns), "")
        kept = {name for name, one in self.columns.items() if name == first or not as_tensor(one).isnan().all()}
        self.columns = {name: column for name, column in self.columns.items() if name in kept}
        return self

    def record(self, row: int) -> Record:
        """One row. A column without a number is none, but for the first, which says how many groups there are."""
        part = slice(row * self.count, (row + 1) * self.count)
        columns = ((name, column[part].tobytes()) for name, column in self.columns.items())
        own = {name: column for place, (name, column) in enumerate(columns) if not place or not is_empty(column)}
        return Record(step=self.steps[row], first=self.first, columns=own, unmeasured=self.unmeasured.get(row, {}))

    def numbers(self, name: str) -> Tensor:
        """A column, a row for each record; a view, not a copy."""
        return as_tensor(self.columns.get(name) or _unknown(len(self) * self.count)).view(len(self), self.count)

    def part(self, first: int, rows: Tensor, groups: Sequence[int], names: Iterable[str]) -> Block:
        """A copy of some rows, groups and columns."""
        made = Block(first, len(groups))
        made.at, made.steps = (_as_array("q", as_tensor(one)[rows]) for one in (self.at, self.steps))
        made.columns = {name: _as_array("f", self.numbers(name)[rows][:, list(groups)]) for name in names}
        if self.unmeasured:
            whys = ((new, self.unmeasured.get(old)) for new, old in enumerate(rows.tolist()))
            made.unmeasured = {new: why for new, why in whys if why}
        return made._pruned()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and self._content == other._content

    __hash__ = None  # type: ignore[assignment]

    @property
    def _content(self) -> tuple[object, ...]:
        columns = {name: column.tobytes() for name, column in self.columns.items()}
        return self.first, self.count, self.at, self.steps, columns, self.unmeasured


class Records(Sequence[Record]):
    """The records of a history in the order in which they were made. Frozen.

    Args:
        blocks: what they are read from.
    """

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self.blocks = tuple(block for block in blocks if len(block))

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    def __iter__(self) -> Iterator[Record]:
        rows = (zip(block.at, repeat(i), range(len(block))) for i, block in enumerate(self.blocks))
        return (self.blocks[i].record(row) for _, i, row in merge(*rows))

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> Records: ...
    def __getitem__(self, place: int | slice) -> Record | Records:
        places = range(len(self))[place]
        return self._at(places) if isinstance(places, int) else Recorder(map(self._at, places)).records()

    def _at(self, place: int) -> Record:
        found = ((block, bisect_left(block.at, place)) for block in self.blocks)
        return next(block.record(row) for block, row in found if row < len(block) and block.at[row] == place)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Records):
            return self.blocks == other.blocks
        return isinstance(other, tuple) and tuple(self) == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} records>"

    @property
    def steps(self) -> Tensor:
        """The steps that have a record, each once, ascending."""
        found: Tensor = torch.unique(torch.cat([as_tensor(block.steps) for block in self.blocks or [Block(0, 0)]]))
        return found

    def where(self, cut: Callable[[Block], Block | None]) -> Records:
        """What a function leaves of each block."""
        parts = [part for block in self.blocks if (part := cut(block)) is not None and len(part)]
        if not parts:
            return Records()
        # Places are counted anew among those that are left.
        left = torch.cat([as_tensor(part.at) for part in parts]).sort().values
        for part in parts:
            part.at = _as_array("q", torch.searchsorted(left, as_tensor(part.at)))
        return Records(sorted(parts, key=lambda part: part.at[0]))


class Recorder:
    """Records as they come in: copies of those that are given, and more."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._blocks: dict[tuple[int, int], Block] = {}
        self._size = 0
        self._whys: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        if isinstance(records, Records):
            self._size = len(records)
            self._blocks = {(one.first, one.count): one.copy(self._size) for one in records.blocks}
        else:
            for record in records:
                self.append(record)

    def __len__(self) -> int:
        return self._size

    @property
    def last(self) -> int:
        """The greatest step that has a record, 0 where none has."""
        return max((max(block.steps) for block in self._blocks.values()), default=0)

    def append(self, record: Record) -> None:
        """One more."""
        why = {0: record.unmeasured} if record.unmeasured else {}
        self.extend(record.first, len(record), [self._size], [record.step], record.columns, why)

    def extend(
        self,
        first: int,
        count: int,
        at: Sequence[int],
        steps: Sequence[int],
        columns: Mapping[str, bytes],
        unmeasured: Mapping[int, Mapping[str, str]],
    ) -> None:
        """Several more, of the same groups; `at` are their places among all records."""
        block = self._blocks.setdefault((first, count), Block(first, count))
        for row, why in unmeasured.items():
            # The same words are in most records that have any.
            block.unmeasured[len(block) + row] = self._whys.setdefault(tuple(why.items()), why)
        block.extend(at, steps, columns)
        self._size += len(steps)

    def records(self) -> Records:
        """What came in so far; what comes in later is not in it, also from another thread meanwhile."""
        size = self._size
        return Records(block.copy(size) for block in [*self._blocks.values()])


def as_tensor(numbers: array[Any]) -> Tensor:
    """The numbers of an array that grows no more; a view, not a copy."""
    dtype = _DTYPES[numbers.typecode]
    return torch.frombuffer(numbers, dtype=dtype) if len(numbers) else torch.empty(0, dtype=dtype, device="cpu")


def _as_array(typecode: str, numbers: Tensor) -> array[Any]:
    made: array[Any] = array(typecode, bytes(numbers.numel() * numbers.element_size()))
    as_tensor(made).copy_(numbers.reshape(-1))
    return made


def _unknown(count: int) -> array[float]:
    return array("f", [math.nan]) * count
