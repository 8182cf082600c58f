"""`History`: what a monitor saw, as a frozen value."""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from torchdecay.errors import LoadError, need
from torchdecay.observe.monitor import jsonl
from torchdecay.observe.monitor.columns import Columns, packed, picked, unpacked
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
        records: in the order in which they were made.
        events: the alarms.
        every_steps: how many steps lie between two records.
        created: when, ISO 8601.
        versions: of torchdecay and torch.

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
    records: tuple[Record, ...] = ()
    events: tuple[Event, ...] = ()
    every_steps: int = 1
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups, each once."""
        return tuple(dict.fromkeys(one.name for one in self.series))

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """The steps that have a record, each once, ascending."""
        return tuple(sorted({record.step for record in self.records}))

    @cached_property
    def quantities(self) -> tuple[str, ...]:
        """The quantities that were recorded of any group."""
        known = set().union(*{tuple(record.columns) for record in self.records})
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
        for record in self.records:
            for one in self.series[record.first : record.first + len(record)]:
                found.pop(one.name, None)
            found |= record.unmeasured
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
        places = self._place(group)
        self._check_quantity(quantity)
        known = [pair for pair in self._numbers(places, quantity) if pair[1] == pair[1]]
        return tuple(step for step, _ in known), tuple(number for _, number in known)

    def shrink(self, group: str) -> Shrink:
        """The log-shrink of a group up to each record, planned and realized.

        Raises:
            LoadError: no such group.
        """
        if group not in self._shrinks:
            places = self._place(group)
            planned, realized = (self._numbers(places, f"{name}_shrink") for name in ("planned", "realized"))
            steps = tuple(step for step, _ in planned)
            logs = [[_log(number) for _, number in pairs] for pairs in (planned, realized)]
            pace = next((log for own in reversed(logs) for log in own[-1:] if log == log), math.nan)
            planned_sum, realized_sum = (_accumulated(steps, own) for own in logs)
            self._shrinks[group] = Shrink(steps, planned_sum, realized_sum, pace)
        return self._shrinks[group]

    @cached_property
    def _shrinks(self) -> dict[str, Shrink]:
        return {}

    @cached_property
    def _blocks(self) -> list[tuple[Record, ...]]:
        """Records one after the other that are of the same groups."""
        alike = groupby(self.records, lambda record: (record.first, len(record)))
        return [tuple(records) for _, records in alike]

    def _numbers(self, places: Sequence[int], quantity: str) -> list[tuple[int, float]]:
        """The steps of a group, and one quantity there, NaN where it was not recorded."""
        found: list[tuple[int, float]] = []
        for records in self._blocks:
            first, width = records[0].first, len(records[0])
            unknown = packed([math.nan] * width)
            for place in places:
                if first <= place < first + width:
                    joined = unpacked(b"".join(record.columns.get(quantity, unknown) for record in records))
                    found += zip((record.step for record in records), joined[place - first :: width], strict=True)
        return found

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
        records = []
        for record in self.records:
            own = [name for name in columns if name in record]
            places = [place - record.first for place in kept if 0 <= place - record.first < len(record)]
            if own and places and low <= record.step <= high:
                first = bisect_left(kept, places[0] + record.first)
                part = Columns(tuple(own), [picked(record.columns[name], places) for name in own])
                why = {name: said for name, said in record.unmeasured.items() if name in names}
                records.append(Record(step=record.step, first=first, columns=part, unmeasured=why))
        return dataclasses.replace(
            self,
            series=tuple(self.series[place] for place in kept),
            records=tuple(records),
            events=tuple(one for one in self.events if low <= one.step <= high and not names.isdisjoint(one.groups)),
        )

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __getitem__(self, part: str | slice) -> History:
        """`history["weight"]`: one group, or a pattern; `history[100:500]`: the steps from 100 up to, not with, 500."""
        if isinstance(part, slice):
            low = -math.inf if part.start is None else part.start
            high = math.inf if part.stop is None else part.stop
            inside = [step for step in self.steps if low <= step < high]
            return self.select(steps=(inside[0], inside[-1]) if inside else (1, 0))
        return self.select(groups=part)

    def to_frame(self) -> Any:
        """A pandas DataFrame: one line per record and group, a column per quantity.

        Raises:
            MissingExtra: pandas is not installed.
        """
        pandas = need("pandas", "lab")
        names = self.quantities
        lines = [
            [record.step, self.series[record.first + i].name]
            + [record[name][i] if name in record else math.nan for name in names]
            for record in self.records
            for i in range(len(record))
        ]
        return pandas.DataFrame(lines, columns=["step", "group", *names])

    def save(self, path: str | Path) -> Path:
        """Write the JSONL that `History.load` reads back to an equal value."""
        head = jsonl.Head(self.every_steps, self.created, dict(self.versions))
        jsonl.save(Path(path), head, jsonl.Content(list(self.series), list(self.records), list(self.events)))
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
        return cls(series=tuple(found.series), records=tuple(found.records), events=tuple(found.events), **vars(head))

    _white_space: ClassVar[str] = "pre"

    def __str__(self) -> str:
        return _table(self)

    def __repr__(self) -> str:
        return (
            f"<History: {len(self.records)} records of {len(self.groups)} groups up to step "
            f"{max(self.steps, default=0)}, {len(self.events)} alarms>"
        )

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


def _log(fraction: float) -> float:
    """−ln(1 − f)."""
    return -math.log1p(-fraction) if fraction < 1 else fraction if math.isnan(fraction) else math.inf


def _accumulated(steps: Sequence[int], logs: Sequence[float]) -> tuple[float, ...] | None:
    """Σ −ln(1 − f) up to each step, a straight line between records; before the first as at the first."""
    previous = next((log for log in logs if log == log), None)
    if previous is None:
        return None
    total, last = 0.0, steps[0] - 1
    sums: list[float] = []
    for step, log in zip(steps, logs, strict=True):
        now = previous if math.isnan(log) else log
        gap = step - last
        if math.isinf(previous) or math.isinf(now):
            total = math.inf
        elif gap > 0:
            # The sum of a straight line over the steps after the record before, up to this one.
            total += ((gap - 1) * previous + (gap + 1) * now) / 2
        sums.append(total)
        previous, last = now, step
    return tuple(sums)


def _table(history: History) -> str:
    """One line per group: its norms, its shrink as planned and as it was, and what was loudest; then the alarms."""
    lines: list[tuple[str, ...]] = [
        ("group", "weights", "decay", "norm", "", "shrunk by", "planned", "decay/update", "measured")
    ]
    lines += [_row(history, name) for name in history.groups]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    told = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    steps, events = history.steps, history.events
    told += _notes(history)
    span = f"steps {steps[0]} to {steps[-1]}" if steps else "no steps"
    told += ["", f"{counted(len(history.records), 'record')}, {span}; {counted(len(events), 'alarm')}"]
    told += [str(event) for event in events[:_MOST_ALARMS]]
    if len(events) > _MOST_ALARMS:
        told.append(f"And {counted(len(events) - _MOST_ALARMS, 'more alarm')}: history.events has them all.")
    return "\n".join(told)


def _row(history: History, name: str) -> tuple[str, ...]:
    about, shrink, known = history.of(name), history.shrink(name), set(history.quantities)
    norms = history.curve(name, "weight_norm")[1] if "weight_norm" in known else ()
    ratio = ""
    if about.decay and {"decay_norm", "update_norm"} <= known:
        decay, update = (dict(zip(*history.curve(name, f"{of}_norm"), strict=True)) for of in ("decay", "update"))
        ratio = next((f"{decay[step] / update[step]:.2g}" for step in reversed(decay) if update.get(step)), "")
    return (
        name,
        f"{about.num_elements:,}",
        about.decay or "spared",
        f"{norms[0]:.4g} →" if norms else "",
        f"{norms[-1]:.4g}" if norms else "",
        _shrunk(shrink.realized),
        _shrunk(shrink.planned),
        ratio,
        _measured(history, about),
    )


def _measured(history: History, about: Series) -> str:
    """How the decay of a group was measured, and in how many of its records."""
    own = [bool(one.unmeasured.get(about.name)) for one in history if about.name in _names(history, one)]
    if about.source != "shadow" or not any(own):
        return _MEASURED[about.source]
    return "no" if all(own) else f"{_MEASURED[about.source]}, in {own.count(False)} of {len(own)} records"


def _names(history: History, record: Record) -> list[str]:
    return [one.name for one in history.series[record.first : record.first + len(record)]]


def _notes(history: History) -> Iterator[str]:
    """What numbers of the table do not say."""
    last = max(history.steps, default=0)
    yield from (f"{name}: not measured at step {last}, for {why}" for name, why in history.unmeasured.items())
    own = [history.of(name) for name in history.groups]
    if any(one.carried == "followed" and history.shrink(one.name).planned for one in own):
        yield "planned: what momentum brings in later steps counts as taken at once"
    if unknown := [one.name for one in own if one.carried == "unknown"]:
        yield f"{listing(unknown)}: measured is what a step's own decay takes; what momentum brings later is not known"
    for dtype, names in _grouped((one.dtype, one.name) for one in own if one.is_rounded):
        yield f"{listing(names)}: {dtype}'s rounding of the updates is in what was measured"
    for why, names in _grouped((one.unplanned, one.name) for one in own if one.unplanned):
        yield f"{listing(names)}: nothing planned, for {why}"


def _grouped(pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found.items()


def _shrunk(sums: Sequence[float] | None) -> str:
    share = math.nan if sums is None else -math.expm1(-sums[-1])
    return "?" if math.isnan(share) else f"{share:.2%}" if abs(share) >= 5e-5 else "0%"
