"""`torchdecay plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from torchdecay.cli.models import load_model
from torchdecay.cli.output import json_option
from torchdecay.errors import PlanError, nearest, repr_quoted

if TYPE_CHECKING:
    from torchdecay.plan.plan import Plan


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
    """The plan for a model that `target` names.

    Raises:
        PlanError: unknown rules, or a plan that does not fit.
    """
    from torchdecay.plan.plan import plan as make
    from torchdecay.plan.policies import BY_NAME
    from torchdecay.plan.spelling import parse_decay

    if rules not in BY_NAME:
        raise PlanError(
            f"there are no rules {repr_quoted(rules)}.", f"Known: {', '.join(BY_NAME)}.", nearest(rules, BY_NAME)
        )
    parsed = parse_decay(decay)
    return make(load_model(target), parsed, rules=BY_NAME[rules])


@click.command()
@click.argument("target")
@plan_options
@click.option("--all", "every", is_flag=True, help="One line per parameter: fold no repeated blocks.")
@json_option
def plan(target: str, decay: str, rules: str, every: bool, as_json: bool) -> None:
    """Who decays, who is spared, and why: one row per parameter.

    TARGET is module:name, looked up from the current folder: a model, a function or class that makes one, or a
    configuration class of transformers (built without memory for its weights). Nothing is trained or changed.

    \b
    Examples:
      torchdecay plan my_project:make_model
      torchdecay plan transformers:LlamaConfig
      torchdecay plan transformers:BertConfig --rules huggingface --decay 0.01
      torchdecay plan my_project:make_model --json > plan.json
    """  # noqa: D301
    made = make_plan(target, decay, rules)
    click.echo(made.to_json() if as_json else str(made.table(group=False if every else None)))
