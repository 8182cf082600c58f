"""`torchdecay audit`."""

from __future__ import annotations

import click

from torchdecay.cli.inputs.setups import load_setup
from torchdecay.cli.output import json_option


@click.command()
@click.argument("target")
@click.option("--select", multiple=True, metavar="CODE", help="Only these codes, or prefixes such as WD3; repeat it.")
@click.option("--ignore", multiple=True, metavar="CODE", help="Not these; repeat it.")
@click.option("--format", "style", type=click.Choice(["text", "json", "github"]), default="text", show_default=True)
@json_option
@click.pass_context
def audit(
    ctx: click.Context, target: str, select: tuple[str, ...], ignore: tuple[str, ...], style: str, as_json: bool
) -> None:
    """What is wrong with the decay of your model under its optimizer.

    TARGET is module:function, looked up from the current folder. The function returns an optimizer or a list of them,
    (optimizer, model), or a dict with optimizer and any of model, plan, run, loss: the more it gives, the more is
    looked into. No step is taken. Exit code 1 when there is an error or a warning.

    \b
    Examples:
      torchdecay audit my_project:make_optimizer
      torchdecay audit my_project:setup --select WD1 --ignore WD103
      torchdecay audit my_project:setup --format github
    """  # noqa: D301
    from torchdecay.observe.audit.audit import audit as look

    found = look(**load_setup(target), select=select, ignore=ignore)
    if as_json or style == "json":
        click.echo(found.to_json())
    else:
        click.echo(found.to_github() if style == "github" else str(found))
    ctx.exit(0 if found.ok else 1)
