"""Paths as people type them; an empty word is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class Paths(click.Path):
    """A path; "" is refused, which would mean the current folder, or be taken for an option that was left out."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        if value == "":
            self.fail('the path is "": most often a variable that is not set. Write . for the folder here.', param, ctx)
        return super().convert(value, param, ctx)


PATH = Paths(path_type=Path)
