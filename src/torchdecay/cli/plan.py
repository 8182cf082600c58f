"""`torchdecay plan`."""

from __future__ import annotations

from pathlib import Path

import click

from torchdecay.cli.inputs.plans import make_plan, plan_options
from torchdecay.cli.output import json_option
from torchdecay.cli.types import PATH
from torchdecay.errors import LoadError


@click.command()
@click.argument("target")
@plan_options
@click.option("--all", "every", is_flag=True, help="One line per parameter: fold no repeated blocks.")
@click.option("--save", type=PATH, metavar="FILE.json", help="Keep the plan, for diff.")
@click.option("--overwrite", is_flag=True, help="Replace a plan that was saved there.  [default: save to FILE-2.json]")
@json_option
def plan(
    target: str, decay: str | None, rules: str | None, every: bool, save: Path | None, overwrite: bool, as_json: bool
) -> None:
    """Who decays, who is spared, and why: one row per parameter.

    TARGET is module:name, looked up from the current folder: a model, a function or class that makes one, or a
    configuration class of transformers (built without memory for its weights). Or it is a file: a checkpoint of
    tensors (.safetensors, .pt, .pth, .bin, .ckpt; code in it is never run), whose roles come from names and shapes
    only, or a saved plan (.json), which has its own decay and rules. Nothing is trained or changed.

    \b
    Examples:
      torchdecay plan my_project:make_model
      torchdecay plan transformers:LlamaConfig
      torchdecay plan transformers:BertConfig --rules huggingface --decay 0.01
      torchdecay plan model.safetensors
      torchdecay plan my_project:make_model --save plan.json
    """  # noqa: D301
    if save is not None and save.suffix != ".json":
        raise LoadError(f"a plan is saved as JSON, not as {save}.", fix=f"Write --save {save.with_suffix('.json')}.")
    made = make_plan(target, decay, rules)
    if save is not None:
        from torchdecay.reports.drawing.files import place_file

        saved = place_file(save, made.to_json() + "\n", overwrite=overwrite)
        if saved != save:
            click.echo(f"{save} is there already; the plan is in {saved}.", err=True)
    click.echo(made.to_json() if as_json else str(made.table(group=False if every else None)))
