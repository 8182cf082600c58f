"""`torchdecay explain`."""

from __future__ import annotations

import click

from torchdecay.cli.inputs.plans import make_plan, plan_options
from torchdecay.cli.output import json_option, print_json


@click.command()
@click.argument("target")
@click.argument("names", nargs=-1, required=True)
@plan_options
@json_option
def explain(target: str, names: tuple[str, ...], decay: str | None, rules: str | None, as_json: bool) -> None:
    """Why single parameters decay or are spared, with the evidence.

    TARGET is as for plan; NAMES are parameters, as model.named_parameters() calls them.

    \b
    Examples:
      torchdecay explain transformers:LlamaConfig model.norm.weight
      torchdecay explain my_project:make_model head.weight head.bias --rules timm
    """  # noqa: D301
    made = make_plan(target, decay, rules)
    texts = {name: made.explain(name) for name in names}
    if as_json:
        print_json(texts)
    else:
        click.echo("\n\n".join(texts.values()))
