"""`torchdecay demo`."""

from __future__ import annotations

from pathlib import Path

import click

from torchdecay.cli.output import json_option, out_option, overwrite_option, print_json, require_writable, where

TASKS = ("digits", "overfit")


@click.command()
@out_option("Folder for the page.", default=Path("torchdecay-demo"), show_default=True)
@overwrite_option
@json_option
@click.pass_context
def demo(ctx: click.Context, out: Path, overwrite: bool, as_json: bool) -> None:
    """Watch weight decay act on two trainings, and get a page.

    Shows the worked example, then two tasks trained with decay and without.

    Takes one to three minutes on two cores and writes one page with all pictures. Ctrl-C keeps what is finished.
    """
    from torchdecay.cli.progress import Bar
    from torchdecay.cli.tables import print_comparison
    from torchdecay.lab.comparisons.compare import compare
    from torchdecay.lab.example import worked_example
    from torchdecay.lab.tasks.registry import task_named
    from torchdecay.reports import verdict
    from torchdecay.reports.document import write
    from torchdecay.reports.example import demo_page

    require_writable(out)
    example = worked_example()
    if not as_json:
        click.echo(example.text)
    comparisons = []
    for name in TASKS:
        with Bar(name) as bar:
            result = compare(task_named(name), on_progress=bar)
        result = result.with_command(f"torchdecay compare {name}")
        comparisons.append(result)
        if not as_json:
            print_comparison(result)
        if result.interrupted:
            break
    finished = [one for one in comparisons if one.runs]
    page = write(demo_page(example, finished), out, overwrite=overwrite) if finished else None
    if as_json:
        verdicts = {one.task: verdict(one) for one in comparisons}
        print_json({"page": None if page is None else str(page), "verdicts": verdicts})
    else:
        click.echo(where(page))
    ctx.exit(1 if any(one.interrupted or one.failures for one in comparisons) else 0)
