"""Words that a table of the package knows: the help shows them, the shell completes them."""

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
    def table(self) -> Any:
        """The table."""
        module, _, name = self._table.partition(":")
        return getattr(importlib.import_module(f"torchdecay.{module}"), name)

    def get_metavar(self, *param: Any, **more: Any) -> str:
        """For the help."""
        return f"[{'|'.join(self.table)}]"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """For the shell."""
        return [CompletionItem(word) for word in self.table if word.startswith(incomplete)]


FORMS = Known("plans.forms:PRESETS")


class FormsCommand(click.Command):
    """A command whose help ends with every form of decay."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each as one types it, and in words."""
        with formatter.section("Forms of decay"):
            formatter.write_dl([(form.spelling, form.summary) for form in FORMS.table.values()], col_max=24)
