"""A plan as a table: for a terminal with rich, for a notebook as HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchdecay.plans.rows import Row
from torchdecay.tables import DIM, FOLD, Cell, Printed, rich_table, screen
from torchdecay.text import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_INDEX = re.compile(r"(?<![^.])\d+(?![^.])")
_HEADS = ("parameter", "shape", "role", "decay", "why")


@dataclass(frozen=True)
class Line:
    """One line of the table: a row, or several alike rows of repeated blocks."""

    label: str
    rows: tuple[Row, ...]

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands in the columns, in the order of the heads."""
        row = self.rows[0]
        shape = "x".join(map(str, row.shape)) or "scalar"
        role = row.role + (f" ({row.kind})" if row.kind not in ("", "matrix", "kernel") else "")
        decay = "-" if row.decay is None else repr(row.decay)
        why = row.reason + "".join(f", {key}={value!r}" for key, value in row.options)
        return tuple(map(printable, (self.label, shape, role, decay, why)))


def fold(rows: tuple[Row, ...]) -> list[Line]:
    """Rows that differ only in the indices of their path, as one line each, in the order of first appearance."""
    folded: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        pattern = _INDEX.sub("*", row.name)
        reason = _INDEX.sub("*", row.reason)
        key = (pattern, row.shape, row.role, row.kind, repr(row.decay), repr(row.options), reason)
        folded.setdefault(key, []).append(row)
    return [
        Line(key[0] + f"  x{len(alike)}" if len(alike) > 1 else alike[0].name, tuple(alike))
        for key, alike in folded.items()
    ]


@dataclass(frozen=True, repr=False)
class PlanTable(Printed):
    """`plan.table()`: prints as a table, in color on a terminal; rich prints it too; notebooks show it as HTML."""

    rows: tuple[Row, ...]
    frozen: int
    group: bool

    @property
    def lines(self) -> list[Line]:
        """What the table shows, from top to bottom."""
        if self.group:
            return fold(self.rows)
        return [Line(row.name, (row,)) for row in self.rows]

    @property
    def summary(self) -> str:
        """How many parameters and elements decay, are spared, are frozen."""
        decayed = [row for row in self.rows if row.decay is not None]
        total = sum(row.num_elements for row in self.rows)
        elements = sum(row.num_elements for row in decayed)
        share = 100 * elements / total if total else 0.0
        text = (
            f"{len(decayed)} of {len(self.rows)} parameters decay: {elements:,} of {total:,} elements ({share:.4g} %)"
        )
        return text + (f"; {self.frozen} frozen" if self.frozen else "")

    def to_html(self) -> str:
        """The table as HTML, every cell escaped."""
        head = "".join(f"<th>{name}</th>" for name in _HEADS)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line.cells) + "</tr>" for line in self.lines
        )
        caption = html.escape(self.summary)
        return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns: tuple[Mapping[str, Any], ...] = ({**FOLD, "ratio": 4}, DIM, {}, FOLD, {**DIM, **FOLD, "ratio": 5})
        yield rich_table(zip(_HEADS, columns, strict=True), map(self._toned, self.lines))
        yield ""
        yield self.summary

    def _toned(self, line: Line) -> Sequence[Cell]:
        row = line.rows[0]
        tone = "green" if row.decay is not None else ("yellow" if row.role == "unknown" else "cyan")
        name, shape, role, decay, why = line.cells
        return name, shape, role, (decay, tone), why

    def _repr_html_(self) -> str:
        return screen(self.to_html())
