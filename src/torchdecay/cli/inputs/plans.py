"""A plan from what people type: a model, a checkpoint, or a plan that was saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchdecay.cli.inputs.models import load_model
from torchdecay.cli.inputs.names import Known
from torchdecay.cli.inputs.results import load_result
from torchdecay.errors import LoadError, PlanError
from torchdecay.text import nearest, repr_quoted

if TYPE_CHECKING:
    from torchdecay.plans.plan import Plan

DECAY = "decoupled:0.1"
POLICIES = Known("plans.policies:BY_NAME")


def plan_options(command: Any) -> Any:
    """The options by which a plan is made."""
    decay = click.option("--decay", help=f"decoupled:0.1, coupled:1e-4, none, ...  [default: {DECAY}]")
    rules = click.option("--rules", type=POLICIES, help="Who decays.  [default: standard]")
    return decay(rules(command))


def make_plan(target: str, decay: str | None, rules: str | None, *, option: str = "--rules") -> Plan:
    """The plan for a model or checkpoint that `target` names, or that was saved there; `option` says the rules."""
    from torchdecay.plans.planning import plan
    from torchdecay.plans.policies import BY_NAME
    from torchdecay.plans.references import SUFFIXES
    from torchdecay.plans.spelling import parse_decay
    from torchdecay.plans.tensor_files import read_tensors

    if is_saved(target):
        for name, value in (("--decay", decay), (option, rules)):
            if value is not None:
                raise LoadError(
                    f"{name} {value} does not go with {target}.",
                    "A saved plan has its own decay and rules, so the option would change nothing.",
                    f"Leave it out, or name the model: my_project:make_model {name} {value}.",
                )
        made: Plan = load_result(Path(target), "plan")
        return made
    rules = "standard" if rules is None else rules
    if rules not in BY_NAME:
        raise PlanError(
            f"there are no rules {repr_quoted(rules)}.", f"Known: {', '.join(BY_NAME)}.", nearest(rules, BY_NAME)
        )
    parsed = parse_decay(DECAY if decay is None else decay)
    model = read_tensors(Path(target), mapped=True) if target.endswith(SUFFIXES) else load_model(target)
    return plan(model, parsed, rules=BY_NAME[rules])


def is_saved(target: str) -> bool:
    """Whether `target` is a plan that was saved, not a model."""
    return target.endswith(".json")
