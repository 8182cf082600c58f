"""`torchdecay diff`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchdecay.cli.output import json_option
from torchdecay.cli.plan import make_plan
from torchdecay.errors import LoadError

if TYPE_CHECKING:
    from torchdecay.plan.plan import Plan


@click.command()
@click.argument("before")
@click.argument("after")
@click.option("--decay", default="decoupled:0.1", show_default=True, help="For what is not a saved plan.")
@click.option("--rules", default="standard", show_default=True, help="Who decays in BEFORE, where it is a model.")
@click.option("--against", default="standard", show_default=True, help="Who decays in AFTER, where it is a model.")
@json_option
@click.pass_context
def diff(ctx: click.Context, before: str, after: str, decay: str, rules: str, against: str, as_json: bool) -> None:
    """What differs between two plans; exit code 1 when something does.

    BEFORE and AFTER are each a model as for plan, or a plan saved as JSON (a path that ends in .json): two models, two
    policies on one model, or the plan kept in your repository and today's model.

    \b
    Examples:
      torchdecay plan my_project:make_model --json > plan.json
      torchdecay diff plan.json my_project:make_model
      torchdecay diff transformers:BertConfig transformers:BertConfig --rules huggingface --against standard
    """  # noqa: D301
    found = _plan_of(before, decay, rules).diff(_plan_of(after, decay, against))
    if as_json:
        body = {
            "different": bool(found),
            "added": [row.name for row in found.added],
            "removed": [row.name for row in found.removed],
            "changed": [str(change) for change in found.changed],
        }
        click.echo(json.dumps(body, indent=1, ensure_ascii=False))
    else:
        click.echo(str(found))
    ctx.exit(1 if found else 0)


def _plan_of(named: str, decay: str, rules: str) -> Plan:
    from torchdecay.plan.plan import Plan

    if not named.endswith(".json"):
        return make_plan(named, decay, rules)
    path = Path(named)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(
            f"the plan {path} can't be read: {error}.", fix="Write one: torchdecay plan ... --json"
        ) from error
    return Plan.from_json(text, callables="describe")
