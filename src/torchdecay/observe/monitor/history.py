"""`History`: what a monitor saw, as a frozen value."""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from torchdecay.errors import LoadError, need
from torchdecay.observe.monitor import jsonl
from torchdecay.observe.monitor.blocks import Block, Recorder, Records, as_tensor
from torchdecay.observe.monitor.meant import AlarmFindings
from torchdecay.observe.monitor.quantities import QUANTITIES
from torchdecay.observe.monitor.series import Event, Record, Series, Shrink
from torchdecay.tables import Shown
from torchdecay.text import counted, listing, nearest, repr_quoted

_MEASURED = {
    "pass": "its own pass",
    "state": "less the update",
    "shadow": "two steps on copies",
    "planned": "no",
    "none": "no",
}
_MOST_ALARMS = 12
"""Alarms that print; of more the rest is counted."""


@dataclass(frozen=True, kw_only=True)
class History(Shown):
    r"""What a monitor saw: records of every group at some steps, and the alarms between them. Frozen.

    A curve is the list of one quantity of one group over the steps. Decay shrinks a weight without gradient by
    exp(−S), with the log-shrink

    $$S_t = -\sum_{s \le t} \ln(1 - f_s)$$

    of the fractions f per step. f is recorded every so many steps and taken as a straight line in between, planned
    and realized alike; `td.forecast` adds up every step.

    Attributes:
        series: the groups.
        records: in the order in which they were made. They are kept as columns of numbers of float32, and each is
            made when it is asked for: a million of two groups take 100 MB.
        events: the alarms.
        every_steps: how many steps lie between two records.
        created: when, ISO 8601.
        versions: of torchdecay and torch.
        about: what was recorded: the optimizer, the model, the command, the file.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=0.01)
        >>> with td.Monitor(optimizer, every_steps=2) as monitor:
        ...     for _ in range(4):
        ...         model(torch.randn(8, 4)).square().mean().backward()
        ...         optimizer.step()
        >>> monitor.history.steps, monitor.history.groups
        ((1, 2, 4), ('weight', 'bias'))
        >>> shrink = monitor.history.shrink("weight")
        >>> [f"{one:.4f}" for one in shrink.planned], [f"{one:.4f}" for one in shrink.realized]
        (['0.0010', '0.0020', '0.0040'], ['0.0010', '0.0020', '0.0040'])
    """

    series: tuple[Series, ...] = ()
    records: Sequence[Record] = field(default_factory=Records)
    events: tuple[Event, ...] = ()
    every_steps: int = 1
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.records, Records):
            object.__setattr__(self, "records", Recorder(self.records).records())

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups, each once."""
        return tuple(dict.fromkeys(one.name for one in self.series))

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """The steps that have a record, each once, ascending."""
        return tuple(self._columns.steps.tolist())

    @cached_property
    def quantities(self) -> tuple[str, ...]:
        """The quantities that were recorded of any group."""
        known = set().union(*(block.columns for block in self._columns.blocks))
        return (*(name for name in QUANTITIES if name in known), *sorted(known - QUANTITIES.keys()))

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for place, one in enumerate(self.series):
            found.setdefault(one.name, []).append(place)
        return found

    @cached_property
    def unmeasured(self) -> Mapping[str, str]:
        """Group → why its decay could not be measured in the last record, where that was tried."""
        found: dict[str, str] = {}
        for block in sorted(self._columns.blocks, key=lambda block: block.at[-1]):
            for name in self._names(block):
                found.pop(name, None)
            found |= block.unmeasured.get(len(block) - 1, {})
        return found

    @property
    def findings(self) -> AlarmFindings:
        """The alarms as findings under stable codes, WD6xx, with all that findings can do."""
        return AlarmFindings(tuple(one.finding for one in self.events if one.code))

    def of(self, group: str) -> Series:
        """What a group is.

        Raises:
            LoadError: no such group.
        """
        return self.series[self._place(group)[-1]]

    def curve(self, group: str, quantity: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Steps, and the numbers of one quantity of one group there; steps without one are left out.

        Raises:
            LoadError: no such group or quantity.
        """
        steps, numbers = self._known(group, quantity)
        return tuple(steps.tolist()), tuple(numbers.tolist())

    def shrink(self, group: str) -> Shrink:
        """The log-shrink of a group up to each record, planned and realized.

        Raises:
            LoadError: no such group.
        """
        sums = self._sums(group)
        planned, realized = (None if one is None else tuple(one.tolist()) for one in (sums.planned, sums.realized))
        return Shrink(tuple(sums.steps.tolist()), planned, realized, sums.pace)

    def _known(self, group: str, quantity: str) -> tuple[Tensor, Tensor]:
        """A curve as tensors: of a long history a tuple is slow."""
        self._place(group)
        self._check_quantity(quantity)
        steps, numbers = self._numbers(group, quantity)
        known = ~numbers.isnan()
        return steps[known], numbers[known]

    def _ends(self, group: str, quantity: str) -> list[float]:
        """The first and the last number of a curve, none where it has none."""
        numbers = self._numbers(group, quantity)[1]
        known = numbers[~numbers.isnan()]
        return known[[0, -1]].tolist() if len(known) else []

    def _sums(self, group: str) -> _Sums:
        """What `shrink` says, as tensors."""
        if group not in self._shrinks:
            (steps, planned), (_, realized) = (
                self._numbers(group, f"{name}_shrink") for name in ("planned", "realized")
            )
            # Steps that were taken again, by a run that was resumed, count once: as they were the last time.
            steps, order = steps.sort(stable=True)
            last = torch.cat([steps.diff() != 0, torch.ones_like(steps[:1], dtype=torch.bool)])
            steps = steps[last]
            logs = [_logs(fractions[order[last]]) for fractions in (planned, realized)]
            pace = next((log for own in reversed(logs) for log in own[-1:].tolist() if log == log), math.nan)
            planned_sum, realized_sum = (_accumulated(steps, own) for own in logs)
            self._shrinks[group] = _Sums(steps, planned_sum, realized_sum, pace)
        return self._shrinks[group]

    @cached_property
    def _shrinks(self) -> dict[str, _Sums]:
        return {}

    @property
    def _columns(self) -> Records:
        assert isinstance(self.records, Records)
        return self.records

    def _names(self, block: Block) -> list[str]:
        return [one.name for one in self.series[block.first : block.first + block.count]]

    def _numbers(self, group: str, quantity: str) -> tuple[Tensor, Tensor]:
        """The steps of a group, and one quantity there, NaN where it was not recorded."""
        own = [
            (block, place - block.first)
            for block in self._columns.blocks
            for place in self._place(group)
            if 0 <= place - block.first < block.count
        ] or [(Block(0, 1), 0)]
        steps = torch.cat([as_tensor(block.steps) for block, _ in own])
        numbers = torch.cat([block.numbers(quantity)[:, column].double() for block, column in own])
        if len(own) == 1:
            return steps, numbers
        order = torch.cat([as_tensor(block.at) for block, _ in own]).argsort(stable=True)
        return steps[order], numbers[order]

    def select(
        self,
        *,
        groups: str | Iterable[str] | None = None,
        quantities: str | Iterable[str] | None = None,
        steps: tuple[int, int] | None = None,
    ) -> History:
        """A part of the history.

        Args:
            groups: names or patterns ("layers.*"); None is all.
            quantities: names; None is all.
            steps: first and last step, both included; None is all.

        Raises:
            LoadError: a group or quantity that is not there.
        """
        kept = range(len(self.series)) if groups is None else self._matching(groups)
        columns = [quantities] if isinstance(quantities, str) else self.quantities if quantities is None else quantities
        for name in columns:
            self._check_quantity(name)
        low, high = steps if steps is not None else (-math.inf, math.inf)
        names = {self.series[place].name for place in kept} | {""}

        def cut(block: Block) -> Block | None:
            own = [name for name in columns if name in block.columns]
            places = [place - block.first for place in kept if 0 <= place - block.first < block.count]
            if not own or not places:
                return None
            at = as_tensor(block.steps)
            inside = (at >= low) & (at <= high)
            if next(iter(block.columns)) not in own:
                # The first column is in every record; another where it has a number.
                inside &= torch.stack([~block.numbers(name).isnan().all(1) for name in own]).any(0)
            first = bisect_left(kept, places[0] + block.first)
            part = block.part(first, inside.nonzero()[:, 0], places, own)
            whys = {row: {name: why[name] for name in why.keys() & names} for row, why in part.unmeasured.items()}
            part.unmeasured = {row: why for row, why in whys.items() if why}
            return part

        return dataclasses.replace(
            self,
            series=tuple(self.series[place] for place in kept),
            records=self._columns.where(cut),
            events=tuple(one for one in self.events if low <= one.step <= high and not names.isdisjoint(one.groups)),
        )

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __getitem__(self, part: str | slice) -> History:
        """`history["weight"]`: one group, or a pattern; `history[100:500]`: the steps from 100 up to, not with, 500.

        Raises:
            LoadError: no such group, or a part that is neither.
        """
        given: Any = part
        if isinstance(given, int) or (isinstance(given, slice) and given.step is not None):
            raise LoadError(
                f"a history has no part {part!r}.",
                fix='Write history["weight"], a name or pattern, or history[100:500].',
            )
        if isinstance(part, slice):
            low = -math.inf if part.start is None else part.start
            high = math.inf if part.stop is None else part.stop
            steps = self._columns.steps
            inside = steps[(steps >= low) & (steps < high)].tolist()
            return self.select(steps=(inside[0], inside[-1]) if inside else (1, 0))
        return self.select(groups=part)

    def to_frame(self) -> Any:
        """A pandas DataFrame: one line per record and group, a column per quantity.

        Raises:
            MissingExtra: pandas is not installed.
        """
        pandas = need("pandas", "lab")
        parts = []
        for block in self._columns.blocks:
            at, steps = (as_tensor(one).repeat_interleave(block.count).numpy() for one in (block.at, block.steps))
            columns = {name: block.numbers(name).double().flatten().numpy() for name in self.quantities}
            parts.append(pandas.DataFrame({"": at, "step": steps, "group": self._names(block) * len(block)} | columns))
        if not parts:
            return pandas.DataFrame(columns=["step", "group", *self.quantities])
        return pandas.concat(parts).sort_values("", kind="stable", ignore_index=True).drop(columns="")

    def save(self, path: str | Path) -> Path:
        """Write the JSONL that `History.load` reads back to an equal value."""
        head = jsonl.Head(self.every_steps, self.created, dict(self.versions), dict(self.about))
        jsonl.save(Path(path), head, self.series, self._columns, self.events)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read the JSONL that a monitor wrote, also while it writes; a last line that is torn is left out.

        Raises:
            LoadError: not a history, another version, or damaged in the middle.

        Warns:
            TornHistoryWarning: the last line was cut off in the middle.
        """
        head, found = jsonl.load(Path(path))
        return cls(
            series=tuple(found.series), records=found.records.records(), events=tuple(found.events), **head.fields
        )

    _white_space: ClassVar[str] = "pre"

    def __str__(self) -> str:
        return _table(self)

    def __repr__(self) -> str:
        return (
            f"<History: {len(self.records)} records of {len(self.groups)} groups up to step "
            f"{self._last}, {len(self.events)} alarms>"
        )

    @property
    def _last(self) -> int:
        return max(self._columns.steps[-1:].tolist(), default=0)

    def _place(self, group: str) -> list[int]:
        if group not in self._places:
            raise LoadError(f"the history has no group {repr_quoted(group)}.", fix=nearest(group, self.groups))
        return self._places[group]

    def _matching(self, patterns: str | Iterable[str]) -> list[int]:
        found: set[int] = set()
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            # A name as it is comes first: names may hold brackets.
            hits = self._places.get(pattern) or [
                place for place, one in enumerate(self.series) if fnmatchcase(one.name, pattern)
            ]
            found.update(hits or self._place(pattern))
        return sorted(found)

    def _check_quantity(self, quantity: str) -> None:
        if quantity not in self.quantities:
            raise LoadError(
                f"the history has no quantity {repr_quoted(quantity)}.",
                f"It has {', '.join(self.quantities) or 'none'}.",
                nearest(quantity, self.quantities),
            )


class _Sums(NamedTuple):
    """`Shrink` as tensors."""

    steps: Tensor
    planned: Tensor | None
    realized: Tensor | None
    pace: float


def _logs(fractions: Tensor) -> Tensor:
    """−ln(1 − f)."""
    return torch.where(fractions >= 1, math.inf, -torch.log1p(-fractions))


def _accumulated(steps: Tensor, logs: Tensor) -> Tensor | None:
    """Σ −ln(1 − f) up to each step, a straight line between records; before the first as at the first."""
    known = ~logs.isnan()
    if not known.any():
        return None
    # Where nothing is known, what was known last; before all the first that is known.
    places = torch.arange(len(logs), device=logs.device)
    last = torch.where(known, places, -1).cummax(0).values
    now = logs[torch.where(last < 0, known.nonzero()[0], last)]
    previous = torch.cat([now[:1], now[:-1]])
    gaps = torch.cat([steps.new_ones(1), steps.diff()])
    # The sum of a straight line over the steps after the record before, up to this one.
    sums = torch.where(gaps > 0, ((gaps - 1) * previous + (gaps + 1) * now) / 2, 0.0)
    return torch.where(previous.isinf() | now.isinf(), math.inf, sums).cumsum(0)


def _table(history: History) -> str:
    """One line per group: its norms, its shrink as planned and as it was, and what was loudest; then the alarms."""
    lines: list[tuple[str, ...]] = [
        ("group", "weights", "decay", "norm", "", "shrunk by", "planned", "decay/update", "measured")
    ]
    lines += [_row(history, name) for name in history.groups]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    told = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    steps, events = history._columns.steps, history.events
    told += _notes(history)
    span = f"steps {steps[0]} to {steps[-1]}" if len(steps) else "no steps"
    told += ["", f"{counted(len(history.records), 'record')}, {span}; {counted(len(events), 'alarm')}"]
    told += [str(event) for event in events[:_MOST_ALARMS]]
    if len(events) > _MOST_ALARMS:
        told.append(f"And {counted(len(events) - _MOST_ALARMS, 'more alarm')}: history.events has them all.")
    return "\n".join(told)


def _row(history: History, name: str) -> tuple[str, ...]:
    about, shrink = history.of(name), history._sums(name)
    norms = history._ends(name, "weight_norm")
    ratio = ""
    if about.decay:
        decay, update = (history._numbers(name, f"{of}_norm")[1] for of in ("decay", "update"))
        ratios = (decay / update)[~decay.isnan() & ~update.isnan() & (update != 0)]
        ratio = "".join(f"{last:.2g}" for last in ratios[-1:].tolist())
    return (
        name,
        f"{about.num_elements:,}",
        about.decay or "spared",
        f"{norms[0]:.4g} →" if norms else "",
        f"{norms[1]:.4g}" if norms else "",
        _shrunk(shrink.realized),
        _shrunk(shrink.planned),
        ratio,
        _measured(history, about),
    )


def _measured(history: History, about: Series) -> str:
    """How the decay of a group was measured, and in how many of its records."""
    places = history._place(about.name)
    own = [one for one in history._columns.blocks if any(0 <= at - one.first < one.count for at in places)]
    missed = sum(about.name in why for block in own for why in block.unmeasured.values())
    if about.source != "shadow" or not missed:
        return _MEASURED[about.source]
    count = sum(map(len, own))
    return "no" if missed == count else f"{_MEASURED[about.source]}, in {count - missed} of {count} records"


def _notes(history: History) -> Iterator[str]:
    """What numbers of the table do not say."""
    for why, names in _grouped((why, name) for name, why in history.unmeasured.items()):
        yield f"{listing(names)}: not measured at step {history._last}, for {why}"
    own = [history.of(name) for name in history.groups]
    if any(one.carried == "followed" and history._sums(one.name).planned is not None for one in own):
        yield "planned: what momentum brings in later steps counts as taken at once"
    for each, names in _grouped(_followed(history)):
        yield f"{listing(names)}: for lack of time what momentum carries was followed at 1 step in {each}"
    if unknown := [one.name for one in own if one.carried == "unknown"]:
        yield f"{listing(unknown)}: measured is what a step's own decay takes; what momentum brings later is not known"
    for dtype, names in _grouped((one.dtype, one.name) for one in own if one.is_rounded):
        yield f"{listing(names)}: {dtype}'s rounding of the updates is in what was measured"
    for why, names in _grouped((one.unplanned, one.name) for one in own if one.unplanned):
        yield f"{listing(names)}: nothing planned, for {why}"


def _followed(history: History) -> Iterator[tuple[str, str]]:
    for name in history.groups if "followed_every" in history.quantities else ():
        each = max(history.curve(name, "followed_every")[1], default=1)
        if each > 1:
            yield f"{each:g}", name


def _grouped(pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found.items()


def _shrunk(sums: Tensor | None) -> str:
    share = math.nan if sums is None else -math.expm1(-float(sums[-1]))
    return "?" if math.isnan(share) else f"{share:.2%}" if abs(share) >= 5e-5 else "0%"
