"""A plan as a table: for a terminal with rich, for a notebook as HTML."""

from __future__ import annotations

import html
import io
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchdecay.plans.rows import Row
from torchdecay.text import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

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


def as_text(table: Any, *, width: int | None, color: bool) -> str:
    """Whatever rich can print, `width` columns wide; None takes the terminal's width, or 120."""
    from rich.console import Console

    console = Console(
        file=io.StringIO(),
        width=width or (None if sys.stdout.isatty() else 120),
        force_terminal=color,
        color_system="standard" if color else None,
    )
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip("\n")


@dataclass(frozen=True)
class PlanTable:
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

    def to_text(self, *, width: int | None = None, color: bool = False) -> str:
        """The table as text, `width` columns wide; None takes the terminal's width, or 120."""
        return as_text(self, width=width, color=color)

    def to_html(self) -> str:
        """The table as HTML, every cell escaped."""
        head = "".join(f"<th>{name}</th>" for name in _HEADS)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line.cells) + "</tr>" for line in self.lines
        )
        caption = html.escape(self.summary)
        return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _rich_table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column(_HEADS[0], overflow="fold", ratio=4)
        table.add_column(_HEADS[1], style="dim")
        table.add_column(_HEADS[2])
        table.add_column(_HEADS[3], overflow="fold")
        table.add_column(_HEADS[4], style="dim", overflow="fold", ratio=5)
        for line in self.lines:
            row = line.rows[0]
            tone = "green" if row.decay is not None else ("yellow" if row.role == "unknown" else "cyan")
            # Text, not strings, which rich would search for markup and emoji.
            name, shape, role, decay, why = map(Text, line.cells)
            decay.stylize(tone)
            table.add_row(name, shape, role, decay, why)
        return table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._rich_table()
        yield ""
        yield self.summary

    def __str__(self) -> str:
        return self.to_text(color=sys.stdout.isatty())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.to_html()
