"""`History`: what a monitor saw, as a frozen value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from torchdecay.errors import LoadError, need
from torchdecay.observe.monitor import jsonl
from torchdecay.observe.monitor.columns import picked
from torchdecay.observe.monitor.quantities import QUANTITIES
from torchdecay.observe.monitor.series import Event, Record, Series, Shrink
from torchdecay.text import nearest, repr_quoted


@dataclass(frozen=True, kw_only=True)
class History:
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

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups, each once."""
        return tuple(dict.fromkeys(one.name for one in self.series))

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that have a record, each once, ascending."""
        return tuple(sorted({record.step for record in self.records}))

    @property
    def quantities(self) -> tuple[str, ...]:
        """The quantities that were recorded of any group."""
        known = {name for record in self.records for name in record.columns}
        return (*(name for name in QUANTITIES if name in known), *sorted(known - QUANTITIES.keys()))

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for place, one in enumerate(self.series):
            found.setdefault(one.name, []).append(place)
        return found

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
        steps, values = [], []
        for record in self.records:
            if quantity not in record.columns:
                continue
            numbers = record[quantity]
            for place in places:
                if 0 <= place - record.first < len(numbers) and not math.isnan(numbers[place - record.first]):
                    steps.append(record.step)
                    values.append(numbers[place - record.first])
        return tuple(steps), tuple(values)

    def shrink(self, group: str) -> Shrink:
        """The log-shrink of a group up to each record, planned and realized.

        Raises:
            LoadError: no such group.
        """
        places = self._place(group)
        rows = [
            (record.step, _at(record, "planned_shrink", place), _at(record, "realized_shrink", place))
            for record in self.records
            for place in places
            if 0 <= place - record.first < len(record)
        ]
        steps = tuple(step for step, _, _ in rows)
        planned = _accumulated(steps, [value for _, value, _ in rows])
        return Shrink(steps, planned, _accumulated(steps, [value for _, _, value in rows]))

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
        kept = range(len(self.series)) if groups is None else self._matching(_listed(groups))
        columns = self.quantities if quantities is None else _listed(quantities)
        for name in columns:
            self._check_quantity(name)
        low, high = steps if steps is not None else (-math.inf, math.inf)
        renumbered = {place: new for new, place in enumerate(kept)}
        names = {self.series[place].name for place in kept}
        records = [
            part
            for record in self.records
            if low <= record.step <= high and (part := _part(record, kept, renumbered, set(columns))) is not None
        ]
        return dataclasses.replace(
            self,
            series=tuple(self.series[place] for place in kept),
            records=tuple(records),
            events=tuple(one for one in self.events if low <= one.step <= high and one.group in names | {""}),
        )

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

    def _matching(self, patterns: Sequence[str]) -> list[int]:
        found: set[int] = set()
        for pattern in patterns:
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


def _listed(given: str | Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _at(record: Record, quantity: str, place: int) -> float:
    return record[quantity][place - record.first] if quantity in record else math.nan


def _part(record: Record, kept: Iterable[int], renumbered: Mapping[int, int], quantities: set[str]) -> Record | None:
    """The part of a record that is about some groups, whose places are counted anew."""
    count = len(record)
    if not count:
        return None
    inside = [place for place in kept if record.first <= place < record.first + count]
    if not inside:
        return None
    places = [place - record.first for place in inside]
    columns = {name: picked(column, places) for name, column in record.columns.items() if name in quantities}
    return Record(step=record.step, first=renumbered[inside[0]], columns=columns) if columns else None


def _accumulated(steps: Sequence[int], fractions: Sequence[float]) -> tuple[float, ...] | None:
    """Σ −ln(1 − f) up to each step, f being a straight line between records; before the first as at the first."""
    logs = [-math.log1p(-one) if one < 1 else (one if math.isnan(one) else math.inf) for one in fractions]
    known = [(step, log) for step, log in zip(steps, logs, strict=True) if not math.isnan(log)]
    if not known:
        return None
    total, previous = 0.0, known[0][1]
    last = steps[0] - 1
    sums: list[float] = []
    for step, log in zip(steps, logs, strict=True):
        now = previous if math.isnan(log) else log
        gap = max(0, step - last)
        # The sum of a straight line over the steps after the record before, up to this one.
        finite = math.isfinite(previous) and math.isfinite(now)
        total += ((gap - 1) * previous + (gap + 1) * now) / 2 if gap and finite else math.inf if not finite else 0.0
        sums.append(total)
        previous, last = now, step
    return tuple(sums)


def _table(history: History) -> str:
    """One line per group: its norms, its shrink as planned and as it was, and what was loudest; then the alarms."""
    steps = history.steps
    head = ("group", "weights", "decay", "norm", "", "shrunk by", "planned", "decay/update", "measured")
    lines = [head]
    for name in history.groups:
        about = history.of(name)
        norms = history.curve(name, "weight_norm")[1] if history.records else ()
        shrink = history.shrink(name)
        lines.append(
            (
                name,
                f"{about.num_elements:,}",
                about.decay or "spared",
                f"{norms[0]:.4g} →" if norms else "",
                f"{norms[-1]:.4g}" if norms else "",
                _last(shrink, "realized"),
                _last(shrink, "planned"),
                _ratio(history, name),
                {"pass": "its own pass", "state": "less the update", "planned": "no", "none": "no"}[about.source],
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    told = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    span = f"steps {steps[0]} to {steps[-1]}" if steps else "no steps"
    told += ["", f"{len(history.records)} records, {span}; {len(history.events)} alarms"]
    told += [str(event) for event in history.events]
    return "\n".join(told)


def _last(shrink: Shrink, which: str) -> str:
    sums = getattr(shrink, which)
    if sums is None:
        return "?"
    share = -math.expm1(-sums[-1])
    return f"{share:.2%}" if abs(share) >= 5e-5 else "0%"


def _ratio(history: History, group: str) -> str:
    known = set(history.quantities)
    if not history.of(group).decay or not {"decay_norm", "update_norm"} <= known:
        return ""
    decay = dict(zip(*history.curve(group, "decay_norm"), strict=True))
    update = dict(zip(*history.curve(group, "update_norm"), strict=True))
    both = [step for step in decay if update.get(step)]
    return f"{decay[both[-1]] / update[both[-1]]:.2g}" if both else ""
