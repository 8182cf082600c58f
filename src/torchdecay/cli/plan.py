"""`torchdecay plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchdecay.cli.inputs.checkpoints import SUFFIXES, load_tensors
from torchdecay.cli.inputs.models import load_model
from torchdecay.cli.output import json_option
from torchdecay.errors import LoadError, PlanError
from torchdecay.text import nearest, repr_quoted

if TYPE_CHECKING:
    from torchdecay.plans.plan import Plan


def plan_options(command: Any) -> Any:
    """The options by which a plan is made."""
    decay = click.option(
        "--decay", default="decoupled:0.1", show_default=True, help="decoupled:0.1, coupled:1e-4, none, ..."
    )
    rules = click.option(
        "--rules",
        default="standard",
        show_default=True,
        help="Who decays: standard, torch, timm, huggingface, nanogpt or detectron2.",
    )
    return decay(rules(command))


def make_plan(target: str, decay: str, rules: str) -> Plan:
    """The plan for a model or a checkpoint that `target` names, or the one that was saved there.

    Raises:
        PlanError: unknown rules, or a plan that does not fit.
        LoadError: a file that can't be read.
    """
    from torchdecay.plans.planning import plan as make
    from torchdecay.plans.policies import BY_NAME
    from torchdecay.plans.spelling import parse_decay

    if rules not in BY_NAME:
        raise PlanError(
            f"there are no rules {repr_quoted(rules)}.", f"Known: {', '.join(BY_NAME)}.", nearest(rules, BY_NAME)
        )
    if is_saved(target):
        return read(Path(target))
    parsed = parse_decay(decay)
    model = load_tensors(Path(target)) if target.endswith(SUFFIXES) else load_model(target)
    return make(model, parsed, rules=BY_NAME[rules])


def is_saved(target: str) -> bool:
    """Whether `target` is a plan that was saved, not a model."""
    return target.endswith(".json")


def read(path: Path) -> Plan:
    """The plan that was saved in a file; code that it names is not imported.

    Raises:
        LoadError: not there, not a plan, of a newer version, or edited so that it means nothing.
    """
    from torchdecay.plans.plan import Plan

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(
            f"the plan {path} can't be read: {error}.",
            fix="Write one: torchdecay plan my_project:make_model --save ...",
        ) from error
    try:
        return Plan.from_json(text, callables="describe")
    except LoadError as error:
        raise LoadError(f"{path}: {error.what}", error.why, error.fix) from error


def _write(made: Plan, path: Path) -> None:
    """Save the plan, all of it or nothing."""
    text = made.to_json() + "\n"
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise LoadError(f"the plan can't be written to {path}: {error.strerror or error}.") from error


@click.command()
@click.argument("target")
@plan_options
@click.option("--all", "every", is_flag=True, help="One line per parameter: fold no repeated blocks.")
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE.json", help="Keep the plan, for diff.")
@json_option
def plan(target: str, decay: str, rules: str, every: bool, save: Path | None, as_json: bool) -> None:
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
        _write(made, save)
    click.echo(made.to_json() if as_json else str(made.table(group=False if every else None)))
