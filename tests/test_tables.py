"""Results are sequences of their entries, and tables hold names that mean nothing to rich."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from torchdecay.tables import FOLD, RIGHT, Entries, Printed, rich_table, rich_text


@dataclasses.dataclass(frozen=True, repr=False)
class Found(Printed, Entries[str]):
    _entries = "names"
    names: tuple[str, ...]

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        rows = [(name, ("bad", "red"), str(len(name))) for name in self.names]
        yield rich_table([("name", FOLD), "word", ("length", RIGHT)], rows)
        yield rich_text(("all: ", "bold"), str(len(self)))


def test_a_result_is_the_sequence_of_its_entries() -> None:
    """Indexing, slices, length, order, membership and search, as of a tuple."""
    found = Found(("a", "b", "c"))
    assert isinstance(found, Sequence) and (found[0], found[-1], found[1:], len(found)) == ("a", "c", ("b", "c"), 3)
    assert list(found) == ["a", "b", "c"] and "b" in found and found.index("c") == 2
    with pytest.raises(IndexError):
        found[3]


def test_a_table_says_names_as_they_are() -> None:
    """Brackets are no markup, control characters are spelled out, numbers stand at the right."""
    lines = Found(("[red]a[/red]", "b\x1b[2J")).to_text(width=60).splitlines()
    assert lines == [
        "name          word  length",
        "[red]a[/red]  bad       12",
        r"b\x1b[2J      bad        5",
        "all: 2",
    ]


def test_color_is_for_terminals() -> None:
    """Text for files and pipes has no escape sequence, and `str` and `repr` are the same text."""
    found = Found(("a",))
    assert "\x1b[31m" in found.to_text(color=True) and "\x1b" not in str(found) == repr(found)


def test_a_name_that_is_too_wide_is_folded() -> None:
    """Nothing of a long name is cut off."""
    text = Found(("x" * 100,)).to_text(width=40)
    assert text.count("x") == 100 and max(map(len, text.splitlines())) <= 40
