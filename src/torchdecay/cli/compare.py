"""`torchdecay compare`."""

from __future__ import annotations

from pathlib import Path

import click

from torchdecay.cli.group import as_typed
from torchdecay.cli.inputs.names import FormsCommand
from torchdecay.cli.inputs.tasks import AskedTask, task_options
from torchdecay.cli.output import finish, json_option, out_option, overwrite_option, require_writable


@click.command(cls=FormsCommand)
@task_options
@click.option(
    "--decay", "decays", multiple=True, metavar="SPELLING", help="A decay to compare; repeat it.  [default: the task's]"
)
@out_option("Folder for the page, its figures and results.json.  [default: torchdecay-TASK]")
@overwrite_option
@json_option
@click.pass_context
def compare(
    ctx: click.Context,
    task: AskedTask,
    decays: tuple[str, ...],
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a task with several decays; get a page that compares them.

    The same seeds for each decay, so that what differs is the decay.

    TASK is a name from --list, csv, or module:function for your own (a function without arguments that returns a
    torchdecay.lab.Task). Ctrl-C keeps the finished runs and writes their page.

    \b
    A decay is spelled as below, or:
      none         no decay
      0.1          the optimizer's own weight_decay
      by_hand:0.1  grad += 0.1 * w in the training loop, as people write it

    \b
    Examples:
      torchdecay compare digits
      torchdecay compare digits --decay none --decay decoupled:10 --seeds 5
      torchdecay compare overfit --decay none --decay coupled:0.1 --decay penalized:0.1
      torchdecay compare grokking --decay none --decay decoupled:1 --seeds 1
      torchdecay compare csv --data houses.csv --target price
      torchdecay compare my_project:my_task --decay none --decay decoupled:0.1
    """  # noqa: D301
    from torchdecay.cli.progress import Bar
    from torchdecay.cli.tables import print_comparison
    from torchdecay.lab.comparisons.compare import compare as run

    made = task.load()
    folder = out or Path(f"torchdecay-{made.name}")
    require_writable(folder)
    with Bar(made.name) as bar:
        result = run(made, list(decays) or None, seeds=task.seeds, on_progress=bar)
    finish(ctx, result.with_command(as_typed(ctx)), folder, print_comparison, overwrite=overwrite, as_json=as_json)
