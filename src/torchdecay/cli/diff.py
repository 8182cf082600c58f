"""`torchdecay diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from torchdecay.cli.inputs.plans import DECAY, POLICIES, is_saved, make_plan
from torchdecay.cli.output import json_option, print_json
from torchdecay.errors import LoadError
from torchdecay.text import listed

if TYPE_CHECKING:
    from torchdecay.plans.plan import Plan


@click.command()
@click.argument("before")
@click.argument("after")
@click.option("--decay", help=f"For what is not a saved plan.  [default: {DECAY}]")
@click.option("--rules", type=POLICIES, help="Who decays in BEFORE, a model.  [default: standard]")
@click.option("--against", type=POLICIES, help="Who decays in AFTER, a model.  [default: standard]")
@json_option
@click.pass_context
def diff(
    ctx: click.Context,
    before: str,
    after: str,
    decay: str | None,
    rules: str | None,
    against: str | None,
    as_json: bool,
) -> None:
    """What differs between two plans; exit code 1 when something does.

    BEFORE and AFTER are each a model, a checkpoint or a saved plan, as for plan: two models, two policies on one model,
    or the plan kept in your repository and today's model.

    \b
    Examples:
      torchdecay plan my_project:make_model --save plan.json
      torchdecay diff plan.json my_project:make_model
      torchdecay diff transformers:BertConfig transformers:BertConfig --rules huggingface --against standard
    """  # noqa: D301
    # With one saved plan, --decay is for the other.
    old = make_plan(before, None if is_saved(before) and not is_saved(after) else decay, rules)
    new = make_plan(after, None if is_saved(after) else decay, against, option="--against")
    _require_common(before, after, old, new)
    found = old.diff(new)
    if as_json:
        body = {
            "different": bool(found),
            "added": [row.name for row in found.added],
            "removed": [row.name for row in found.removed],
            "changed": [str(change) for change in found.changed],
        }
        print_json(body)
    else:
        click.echo(str(found))
    ctx.exit(1 if found else 0)


def _require_common(before: str, after: str, old: Plan, new: Plan) -> None:
    """A saved plan of another model altogether is a mistake, and not a difference."""
    if not (is_saved(before) or is_saved(after)) or any(name in new for row in old.rows for name in row.names):
        return
    raise LoadError(
        f"{before} and {after} have no parameter in common: one is the plan of another model.",
        f"The first has {listed(row.name for row in old.rows)}; the second {listed(row.name for row in new.rows)}.",
        "Save the plan of this model: torchdecay plan my_project:make_model --save plan.json",
    )
