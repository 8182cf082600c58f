"""The `torchdecay` command: its help, its errors, its exit codes."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import click

from torchdecay._version import __version__
from torchdecay.cli.words import told_in_options
from torchdecay.errors import NO_ROOM, MissingExtra, TorchdecayError
from torchdecay.text import nearest, repr_quoted

COMMANDS = (
    "demo",
    "run",
    "example",
    "plan",
    "explain",
    "diff",
    "audit",
    "lint",
    "verify",
    "convert",
    "forecast",
    "rescale",
    "suggest",
    "compare",
    "sweep",
    "report",
    "serve",
)
"""In the order of the help; each is a module of this folder with a function of that name."""


class Told(click.ClickException):
    """A message on stderr without a traceback; exit code 2, wrong use, or 1 where a library or room on a disk lacks."""

    def __init__(self, error: TorchdecayError) -> None:
        super().__init__(str(error))
        self.kind = type(error).__name__
        full = getattr(error.__cause__, "errno", None) in NO_ROOM
        self.exit_code = 1 if full or isinstance(error, MissingExtra) else 2  # type: ignore[misc]

    def show(self, file: Any = None) -> None:
        """Print the error as Python would, less the traceback."""
        click.echo(f"{styled(self.kind, fg='red', bold=True)}: {self.message}", err=True, file=file)


def styled(text: str, **look: Any) -> str:
    """Text in color, unless NO_COLOR asks for none."""
    return text if os.environ.get("NO_COLOR") else click.style(text, **look)


class Commands(click.Group):
    """Commands that are imported when they are called, and errors that are told, not thrown."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one command."""
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"torchdecay.cli.{name}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which it may have been."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            hint = nearest(args[0], COMMANDS) or f"Commands: {', '.join(COMMANDS)}."
            ctx.fail(f"there is no command {args[0]!r}. {hint}")
        # What begins like a negative number is one: behind a blank it is no option. A script's words stay as they are.
        end = args.index("--") if "--" in args else 1 if args[:1] == ["run"] else len(args)
        args = [f" {word}" if re.match(r"-\.?\d", word) else word for word in args[:end]] + args[end:]
        return super().resolve_command(ctx, args)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Keep the words as typed: results say which command made them."""
        return super().make_context(info_name, args, parent, obj=tuple(args), **extra)

    def main(self, *args: Any, **more: Any) -> Any:
        """Run it all; what can't be written for want of room is told."""
        try:
            return super().main(*args, **more)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            what = repr_quoted(str(error.filename)) if error.filename else "The output"
            click.echo(f"{what} can't be written: {error.strerror}.", err=True)
            if not error.filename:
                # What is left of it would fail once more when Python ends.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; mistakes and warnings become lines on stderr."""
        with warnings.catch_warnings(), _sigterm_is_ctrl_c():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = _show
            try:
                return super().invoke(ctx)
            except TorchdecayError as error:
                command = self.get_command(ctx, ctx.invoked_subcommand or "") or self
                options = {param.name or "": param.opts[0] for param in command.params if param.opts[0][0] == "-"}
                raise Told(told_in_options(error, options)) from error


@contextlib.contextmanager
def _sigterm_is_ctrl_c() -> Iterator[None]:
    """Whoever runs jobs asks them to end by SIGTERM; what Ctrl-C keeps is kept then too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    click.echo(f"{styled(category.__name__, fg='yellow')}: {message}", err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version=__version__, message="%(version)s")
def main() -> None:
    """See, plan and compare weight decay in PyTorch.

    \b
    Start here:
      torchdecay demo                         watch decay act on two trainings, and get a page
      torchdecay run train.py                 your script as it is, and what decay does in it
      torchdecay example                      one step of SGD with decay, number by number
    Your model:
      torchdecay plan my_project:make_model   who decays, who is spared, and why
      torchdecay explain my_project:make_model head.weight
      torchdecay audit my_project:setup       what is wrong with its decay, before training
      torchdecay lint src train.py            what is wrong in the source, without running it
      torchdecay verify my_project:setup      what each group really does, measured
    Your numbers:
      torchdecay convert 0.1 decoupled half_life_epochs --lr 1e-3 --steps-per-epoch 391
      torchdecay forecast my_project:setup --steps 10000 --schedule cosine
      torchdecay rescale 0.1 --before lr=1e-3,steps=1000 --after lr=3e-3,steps=1000
      torchdecay suggest --lr 1e-3 --epochs 10 --batch-size 128 --num-samples 50000
    Your data:
      torchdecay compare csv --data houses.csv --target price
      torchdecay compare digits --decay none --decay decoupled:10 --seeds 3
      torchdecay sweep digits --seeds 3       which value, and how sure

    Every command but run takes --json. Exit codes: 0 fine, 1 something failed or was found, 2 wrong use.
    """  # noqa: D301


def as_typed(ctx: click.Context) -> str:
    """The command line."""
    import shlex

    return shlex.join(["torchdecay", *ctx.find_root().obj])
