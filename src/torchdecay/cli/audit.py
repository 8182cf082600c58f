"""`torchdecay audit`."""

from __future__ import annotations

from typing import Any

import click

from torchdecay.cli.inputs.options import typed
from torchdecay.cli.inputs.runs import run_from, run_options
from torchdecay.cli.inputs.setups import load_setup, model_beside
from torchdecay.cli.output import json_option


@click.command()
@click.argument("target")
@click.option("--select", multiple=True, metavar="CODE", help="Only these codes, or prefixes such as WD3; repeat it.")
@click.option("--ignore", multiple=True, metavar="CODE", help="Not these; repeat it.")
@run_options
@click.option("--format", "style", type=click.Choice(["text", "json", "github"]), default="text", show_default=True)
@json_option
@click.pass_context
def audit(
    ctx: click.Context,
    target: str,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    run: dict[str, Any],
    style: str,
    as_json: bool,
) -> None:
    """What is wrong with the decay of your model under its optimizer.

    TARGET is module:function, looked up from the current folder. The function returns an optimizer or a list of them,
    (optimizer, model), or a dict with optimizer and any of model, plan, run, loss: the more it gives, the more is
    looked into. Without a model that of the module is taken, if the optimizer has its parameters; else biases and norms
    are guessed from shapes. A run of the setup is taken as it is, but for what is said here. The module is imported and
    the function called, so a script that trains when it is imported trains; the audit itself takes no step. Exit code 1
    when there is an error or a warning.

    \b
    Examples:
      torchdecay audit my_project:make_optimizer
      torchdecay audit my_project:setup --select WD1 --ignore WD103
      torchdecay audit my_project:setup --epochs 10 --batch-size 128 --num-samples 50000
      torchdecay audit my_project:setup --format github
    """  # noqa: D301
    from torchdecay.observe.audit.audit import audit as look

    if as_json and style != "json" and typed(ctx, "style"):
        raise click.BadParameter(f"{style} is another form than --json; leave one of them out.", param_hint="--format")
    setup = load_setup(target)
    if setup.get("model") is None and (beside := model_beside(target, setup["optimizer"])) is not None:
        name, setup["model"] = beside
        click.echo(f"The model is {name}: the optimizer has its parameters.", err=True)
    if run:
        setup["run"] = run_from(run, setup.get("run"))
    found = look(**setup, select=select, ignore=ignore)
    if as_json or style == "json":
        click.echo(found.to_json())
    else:
        click.echo(found.to_github() if style == "github" else str(found))
    ctx.exit(0 if found.ok else 1)
