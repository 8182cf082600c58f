"""Results that are sequences of their entries, and tables of text, in color on a terminal."""

from __future__ import annotations

import html
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from torchdecay.text import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

T = TypeVar("T")

FOLD: Mapping[str, Any] = {"overflow": "fold"}
RIGHT: Mapping[str, Any] = {"justify": "right"}
DIM: Mapping[str, Any] = {"style": "dim"}
Cell = str | tuple[str, str]
"""Text, or text and a style."""


class Entries(Sequence[T]):
    """A dataclass that is the sequence of what one of its fields holds, `groups` unless `_entries` says another."""

    _entries: ClassVar[str] = "groups"

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        entries: tuple[T, ...] = getattr(self, self._entries)
        return entries[index]

    def __len__(self) -> int:
        return len(getattr(self, self._entries))


class Shown:
    """What a notebook shows as print does: a value whose text is sentences, or lines that must stay lines."""

    _white_space: ClassVar[str] = "pre-wrap"

    def _repr_html_(self) -> str:
        style = f"margin: 0; white-space: {self._white_space}; background: none; color: inherit; line-height: 1.35"
        return screen(f'<pre style="{style}">{html.escape(str(self))}</pre>')


def screen(content: str) -> str:
    """HTML for a notebook: never more than one screen, in the notebook's own colors, be they dark or light."""
    return f'<div class="torchdecay" style="max-height: 70vh; overflow: auto; color: inherit">{content}</div>'


class Printed(Shown):
    """What prints as a table: a dataclass with repr=False that says in `__rich_console__` what rich prints of it."""

    _white_space: ClassVar[str] = "pre"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        raise NotImplementedError

    def to_text(self, *, width: int | None = None, color: bool = False) -> str:
        """The table as text, `width` columns wide; None takes the terminal's width, or 120."""
        from rich.console import Console

        console = Console(
            file=io.StringIO(),
            width=width or (None if sys.stdout.isatty() else 120),
            # In a notebook rich would show what is only to be made into text.
            force_jupyter=False,
            force_terminal=color,
            color_system="standard" if color else None,
        )
        console.print(self)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue().rstrip("\n")

    def __str__(self) -> str:
        return self.to_text(color=sys.stdout.isatty())

    def __repr__(self) -> str:
        return str(self)


def rich_table(columns: Iterable[str | tuple[str, Mapping[str, Any]]], rows: Iterable[Sequence[Cell]]) -> Table:
    """A table without lines, for rich to print.

    Args:
        columns: the head of each, or a head and options of rich's, such as `FOLD` and `RIGHT`.
        rows: the cells. Names in heads and cells are never read as markup.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        head, options = (column, {}) if isinstance(column, str) else column
        table.add_column(Text(head), **options)
    for row in rows:
        table.add_row(*(rich_text(cell) for cell in row))
    return table


def rich_text(*parts: Cell) -> Text:
    """Text for rich to print, each part plain or with a style; names in it are never read as markup."""
    from rich.text import Text

    made = Text()
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        made.append(printable(text), style=style or None)
    return made
