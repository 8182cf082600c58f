"""`torchdecay lint`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from torchdecay.cli.inputs.findings import findings_options, known_rules, print_findings, settings_of
from torchdecay.cli.output import json_option
from torchdecay.cli.types import PATH


@click.command()
@click.argument("paths", nargs=-1, type=PATH, metavar="[PATH]...")
@findings_options
@click.option("--extend-select", multiple=True, metavar="CODE", help="These beside those selected; repeat it.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Files and folders to leave out; repeat it.")
@click.option("--fix", is_flag=True, help="Write what is certain: misspelled keys, any(...), numbers in quotes.")
@click.option("--diff", "show_diff", is_flag=True, help="Show what --fix would write, and write nothing.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [default: one for each core]")
@json_option
@click.pass_context
def lint(
    ctx: click.Context, /, paths: tuple[Path, ...], fix: bool, show_diff: bool, jobs: int | None, **given: Any
) -> None:
    """What is wrong with weight decay in source code, without running it.

    PATHS are Python files, notebooks and folders of them; the current folder by default. Neither torch nor your code is
    imported. A line with `# noqa: WD501` is left out. [tool.torchdecay.lint] of pyproject.toml says select, ignore,
    extend-select, exclude, per-file-ignores, severity and baseline. Exit code 1 when there is an error or a warning.

    \b
    Examples:
      torchdecay lint
      torchdecay lint train.py notebooks/ --ignore WD502
      torchdecay lint --diff train.py
      torchdecay lint --format sarif > lint.sarif
      torchdecay lint --baseline known.json --update-baseline
      torchdecay lint --explain WD501
    """  # noqa: D301
    from torchdecay.integrations.lint.fixes import diff, mended, write
    from torchdecay.integrations.lint.lint import choice
    from torchdecay.integrations.lint.lint import lint as look
    from torchdecay.integrations.lint.result import RULES

    if known_rules(given, RULES):
        return
    if fix and show_diff:
        raise click.BadParameter("it writes nothing, and --fix writes; leave one of them out.", param_hint="--diff")
    said = settings_of("lint", given, {"extend-select": list, "exclude": list, "per-file-ignores": dict})
    chosen = {
        "select": (*said.select, *said.more["extend-select"]) if said.select else (),
        "ignore": said.ignore,
        "per_file_ignores": said.more["per-file-ignores"],
        "exclude": said.more["exclude"],
        "severity": said.severity,
        "jobs": jobs or os.cpu_count() or 1,
    }
    found = look(paths or (".",), **chosen)
    if fix or show_diff:
        files = list(mended(found, choice(chosen["select"], chosen["ignore"], chosen["per_file_ignores"])))
        if show_diff:
            shown = diff(files)
            click.echo(shown, nl=False)
            ctx.exit(1 if shown else 0)
        if files:
            click.echo(f"Mended: {', '.join(map(str, write(files)))}", err=True)
            found = look(paths or (".",), **chosen)
    print_findings(ctx, found, said)
