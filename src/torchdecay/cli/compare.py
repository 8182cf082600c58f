"""`torchdecay compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchdecay.cli.group import as_typed
from torchdecay.cli.inputs.names import FormsCommand
from torchdecay.cli.inputs.tasks import AskedTask, store_options, task_options
from torchdecay.cli.output import SoFar, finish, json_option, out_option, overwrite_option, require_writable

if TYPE_CHECKING:
    from torchdecay.lab.storage.store import Store


@click.command(cls=FormsCommand)
@task_options()
@click.option(
    "--decay", "decays", multiple=True, metavar="SPELLING", help="A decay to compare; repeat it.  [default: the task's]"
)
@store_options
@out_option("Folder for the page, its figures and results.json.  [default: torchdecay-TASK]")
@overwrite_option
@json_option
@click.pass_context
def compare(
    ctx: click.Context,
    task: AskedTask,
    decays: tuple[str, ...],
    store: Store | None,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a task with several decays; get a page that compares them.

    The same seeds for each decay, so that what differs is the decay.

    TASK is a name from --list, csv, or module:function for your own (a function without arguments that returns a
    torchdecay.lab.Task). Ctrl-C keeps the finished runs and writes their page; FOLDER/so-far.json holds them meanwhile.
    With --store a kill at any moment costs the run in flight only: the same command with --resume goes on.

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
      torchdecay compare grokking --decay none --decay decoupled:1 --seeds 3
      torchdecay compare csv --data houses.csv --target price
      torchdecay compare my_project:my_task --decay none --decay decoupled:0.1
    """  # noqa: D301
    from torchdecay.cli.progress import Bar
    from torchdecay.cli.tables import print_comparison
    from torchdecay.lab.comparisons.compare import compare as run

    made = task.load()
    folder = out or Path(f"torchdecay-{made.name}")
    require_writable(folder)
    typed, so_far = as_typed(ctx), SoFar(folder)
    with Bar(made.name) as bar:
        result = run(
            made,
            list(decays) or None,
            seeds=task.seeds,
            store=store,
            on_progress=bar,
            on_result=lambda result: so_far(result.with_command(typed)),
        )
    result = result.with_command(typed)
    finish(ctx, result, folder, print_comparison, so_far, overwrite=overwrite, as_json=as_json)
