"""What options take: numbers and paths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from torchdecay.errors import UnitError
from torchdecay.numbers import read_count, read_number


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """For options: what `read` makes of their text, where it is at least `minimum`."""

    def __init__(self, name: str, read: Callable[..., Any], minimum: float | None = None) -> None:
        self.name, self.read, self._minimum = name, read, minimum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        try:
            number = self.read(value) if isinstance(value, str) else value
        except UnitError as error:
            self.fail(f"{error.what} {error.fix}", param, ctx)
        if self._minimum is not None and number < self._minimum:
            self.fail(f"{value} is below {self._minimum:g}.", param, ctx)
        return number


def read_counts(text: str) -> list[int]:
    """`3`, or `2,6`."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        said = f"{text!r} is neither a number nor several: these are not numbers with commas between."
        raise UnitError(said, fix="Write 2,6 say.") from error


NUMBER, COUNT = Numbers("number", read_number), Numbers("count", read_count)
POSITIVE, COUNTS = Numbers("count", read_count, 1), Numbers("counts", read_counts)


class Paths(click.Path):
    """A path; "" is refused, which would mean the current folder, or be taken for an option that was left out."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        if value == "":
            self.fail('the path is "": most often a variable that is not set. Write . for the folder here.', param, ctx)
        return super().convert(value, param, ctx)


PATH = Paths(path_type=Path)
