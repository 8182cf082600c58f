"""Words that a table of the package knows: the help shows them and the shell completes them."""

from __future__ import annotations

import importlib
from typing import Any

import click
from click.shell_completion import CompletionItem


class Known(click.ParamType):  # type: ignore[type-arg]
    """A word of a table; what else is typed is for the table's owner to refuse, with the nearest word.

    Args:
        table: "module:NAME" of the table, which is not imported before it is needed.
    """

    name = "name"

    def __init__(self, table: str) -> None:
        self._table = table

    @property
    def words(self) -> list[str]:
        """All that the table knows."""
        module, _, name = self._table.partition(":")
        return list(getattr(importlib.import_module(f"torchdecay.{module}"), name))

    def get_metavar(self, *param: Any, **more: Any) -> str:
        """For the help."""
        return f"[{'|'.join(self.words)}]"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """For the shell."""
        return [CompletionItem(word) for word in self.words if word.startswith(incomplete)]
