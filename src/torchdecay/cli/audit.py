"""`torchdecay audit`."""

from __future__ import annotations

from typing import Any

import click

from torchdecay.cli.inputs.findings import findings_options, known_rules, print_findings, settings_of
from torchdecay.cli.inputs.runs import run_from, run_options
from torchdecay.cli.inputs.setups import load_setup, model_beside
from torchdecay.cli.output import json_option
from torchdecay.text import capital


@click.command()
@click.argument("target", required=False)
@findings_options
@click.option("--recipe", metavar="NAME", help="Judge who decays by it: moonlight, timm, ...  [default: standard]")
@run_options
@json_option
@click.pass_context
def audit(ctx: click.Context, /, target: str | None, recipe: str | None, run: dict[str, Any], **given: Any) -> None:
    """What is wrong with the decay of your model under its optimizer.

    TARGET is module:function, looked up from the current folder. The function returns an optimizer or a list of them,
    (optimizer, model), or a dict with optimizer and any of model, plan, run, loss: the more it gives, the more is
    looked into. Without a model that of the module is taken, if the optimizer has its parameters; else biases and norms
    are guessed from shapes. A run of the setup is taken as it is, but for what is said here. The module is imported and
    the function called, so a script that trains when it is imported trains; the audit itself takes no step. Exit code 1
    when there is an error or a warning.

    [tool.torchdecay.audit] of pyproject.toml says select, ignore, severity and baseline, for `run` too:
    `ignore = {WD101 = ["*.gate.*"]}` leaves out parameters that are meant so.

    \b
    Examples:
      torchdecay audit my_project:make_optimizer
      torchdecay audit my_project:setup --select WD1 --ignore WD103
      torchdecay audit my_project:setup --epochs 10 --batch-size 128 --num-samples 50000
      torchdecay audit my_project:setup --format sarif > audit.sarif
      torchdecay audit my_project:setup --baseline known.json
      torchdecay audit --explain WD101
    """  # noqa: D301
    from torchdecay.observe.audit.catalog import CATALOG

    if known_rules(given, CATALOG):
        return
    if target is None:
        raise click.UsageError("Missing argument 'TARGET': module:function.")
    said = settings_of("audit", given, {"recipe": str})
    from torchdecay.observe.audit.audit import audit as look

    setup = load_setup(target)
    if setup.get("model") is None and (beside := model_beside(target, setup["optimizer"])) is not None:
        name, setup["model"] = beside
        click.echo(f"The model is {name}: the optimizer has its parameters.", err=True)
    if run:
        setup["run"] = run_from(run, setup.get("run"))
    ignore = said.more["patterns"] or said.ignore
    recipe = recipe or said.more["recipe"]
    found = look(**setup, select=said.select, ignore=ignore, severity=said.severity, recipe=recipe)
    if found.nearest:
        click.echo(f"{capital(found.nearest)}; --recipe NAME judges by one.", err=True)
    print_findings(ctx, found, said)
