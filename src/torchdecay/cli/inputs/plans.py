"""A plan from what people type: a model, a checkpoint, or a plan that was saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchdecay.cli.inputs.models import load_model
from torchdecay.cli.inputs.names import Known
from torchdecay.cli.inputs.results import load_result
from torchdecay.errors import PlanError
from torchdecay.text import nearest, repr_quoted

if TYPE_CHECKING:
    from torchdecay.plans.plan import Plan

POLICIES = Known("plans.policies:BY_NAME")


def plan_options(command: Any) -> Any:
    """The options by which a plan is made."""
    decay = click.option(
        "--decay", default="decoupled:0.1", show_default=True, help="decoupled:0.1, coupled:1e-4, none, ..."
    )
    rules = click.option("--rules", type=POLICIES, default="standard", show_default=True, help="Who decays.")
    return decay(rules(command))


def make_plan(target: str, decay: str, rules: str) -> Plan:
    """The plan for a model or a checkpoint that `target` names, or the one that was saved there.

    Raises:
        PlanError: unknown rules, or a plan that does not fit.
        LoadError: a file that can't be read.
    """
    from torchdecay.plans.forms.parsing import parse_decay
    from torchdecay.plans.planning import plan
    from torchdecay.plans.policies import BY_NAME
    from torchdecay.plans.references import SUFFIXES
    from torchdecay.plans.tensor_files import read_tensors

    if rules not in BY_NAME:
        raise PlanError(
            f"there are no rules {repr_quoted(rules)}.", f"Known: {', '.join(BY_NAME)}.", nearest(rules, BY_NAME)
        )
    if is_saved(target):
        made: Plan = load_result(Path(target), "plan")
        return made
    parsed = parse_decay(decay)
    model = read_tensors(Path(target), mapped=True) if target.endswith(SUFFIXES) else load_model(target)
    return plan(model, parsed, rules=BY_NAME[rules])


def is_saved(target: str) -> bool:
    """Whether `target` is a plan that was saved, not a model."""
    return target.endswith(".json")
