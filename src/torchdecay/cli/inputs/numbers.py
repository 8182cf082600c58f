"""Options that are numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from torchdecay.errors import UnitError
from torchdecay.numbers import read_count, read_number


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """For options: what `read` makes of their text, where it is at least `minimum`."""

    def __init__(self, name: str, read: Callable[..., Any], minimum: float = -math.inf) -> None:
        self.name, self.read, self._minimum = name, read, minimum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        try:
            number = self.read(value) if isinstance(value, str) else value
        except UnitError as error:
            self.fail(f"{error.what} {error.fix}", param, ctx)
        if number < self._minimum:
            self.fail(f"{value} is below {self._minimum:g}.", param, ctx)
        return number


NUMBER, COUNT = Numbers("number", read_number), Numbers("count", read_count)
POSITIVE = Numbers("count", read_count, 1)
