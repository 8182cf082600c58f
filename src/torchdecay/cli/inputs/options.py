"""Options that several commands share, and that a command gets as one argument."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

Decorator = Callable[[Any], Any]


def options_of(table: dict[str, tuple[Any, str]]) -> tuple[Decorator, ...]:
    """An option for each entry of a table of types and helps."""
    also = {"lr_schedule": ("--schedule",)}
    return tuple(
        click.option(f"--{name.replace('_', '-')}", *also.get(name, ()), name, type=kind, help=text)
        for name, (kind, text) in table.items()
    )


def gathered(argument: str, make: Callable[..., Any], *options: Decorator) -> Decorator:
    """A decorator: these options, of whose values the command gets `make(**values)` as one argument."""

    def decorate(command: Any) -> Any:
        @functools.wraps(command)
        def with_one(*args: Any, **given: Any) -> Any:
            values = {name: given.pop(name) for name in names}
            return command(*args, **given, **{argument: make(**values)})

        wrapped: Any = with_one
        before = len(getattr(command, "__click_params__", ()))
        for option in reversed(options):
            wrapped = option(wrapped)
        names = [param.name for param in wrapped.__click_params__[before:] if param.expose_value]
        return wrapped

    return decorate


def typed(ctx: click.Context, *names: str) -> list[str]:
    """Those options, of the parameters of these names, that are on the command line: also one that says the default."""
    there = [param for param in ctx.command.params if param.name in names]
    return [one.opts[0] for one in there if ctx.get_parameter_source(one.name or "") is ParameterSource.COMMANDLINE]


def given(**values: Any) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in values.items() if value is not None}
