"""`torchdecay lint`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from torchdecay.cli.output import json_option
from torchdecay.cli.paths import PATH


@click.command()
@click.argument("paths", nargs=-1, type=PATH, metavar="[PATH]...")
@click.option("--select", multiple=True, metavar="CODE", help="Only these codes, or prefixes such as WD51; repeat it.")
@click.option("--ignore", multiple=True, metavar="CODE", help="Not these; repeat it.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Files and folders to leave out; repeat it.")
@click.option("--format", "style", type=click.Choice(["text", "json", "github"]), default="text", show_default=True)
@json_option
@click.pass_context
def lint(
    ctx: click.Context,
    paths: tuple[Path, ...],
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    exclude: tuple[str, ...],
    style: str,
    as_json: bool,
) -> None:
    """What is wrong with weight decay in source code, without running it.

    PATHS are Python files, notebooks and folders of them; the current folder by default. Neither torch nor your code is
    imported. A line with `# noqa: WD501` is left out. Exit code 1 when there is an error or a warning.

    \b
    Examples:
      torchdecay lint
      torchdecay lint train.py notebooks/ --ignore WD502
      torchdecay lint --format github
    """  # noqa: D301
    from torchdecay.integrations.lint.lint import lint as look

    found = look(paths or (".",), select=select, ignore=ignore, exclude=exclude, jobs=os.cpu_count() or 1)
    if as_json or style == "json":
        click.echo(found.to_json())
    else:
        click.echo(found.to_github() if style == "github" else str(found))
    ctx.exit(0 if found.ok else 1)
