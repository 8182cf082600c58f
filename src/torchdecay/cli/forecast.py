"""`torchdecay forecast`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchdecay.cli.inputs.plans import POLICIES, is_saved, make_plan
from torchdecay.cli.inputs.runs import run_from, run_options
from torchdecay.cli.inputs.setups import load_setup
from torchdecay.cli.output import json_option, print_result
from torchdecay.cli.types import PATH
from torchdecay.errors import TaskError, UnitError
from torchdecay.text import nearest, repr_quoted

if TYPE_CHECKING:
    from torch.optim import Optimizer


def optimizer_class(name: str) -> type[Optimizer]:
    """An optimizer of torch by name, in any case."""
    from torchdecay.optimizers.cards import torch_class, torch_names

    names = torch_names(decaying=True)
    found = torch_class(name) if name.lower() in (one.lower() for one in names) else None
    if found is None:
        raise UnitError(
            f"there is no optimizer {repr_quoted(name)}.", f"Known: {', '.join(names)}.", nearest(name, names)
        )
    return found


@click.command()
@click.argument("target")
@run_options
@click.option("--decay", help="For a model: decoupled:0.1, native:0.1, ...; it is then planned as by plan.")
@click.option("--rules", type=POLICIES, help="For a model: who decays.  [default: standard]")
@click.option("--optimizer", metavar="NAME", help="For a model or a saved plan: AdamW, SGD, ..., with its defaults.")
@click.option("--figure", type=PATH, metavar="FILE.svg", help="Draw it: .svg or .png.")
@json_option
def forecast(
    target: str,
    decay: str | None,
    rules: str | None,
    optimizer: str | None,
    figure: Path | None,
    run: dict[str, Any],
    as_json: bool,
) -> None:
    """What decay will do in a run, before it: per step, in half-lives, and in all.

    TARGET is module:function as for audit: it returns an optimizer, (optimizer, model), or a dict with optimizer and
    any of model, plan, run. With --decay it is a model or a checkpoint, and without one it may be a plan that plan
    --save wrote. A run of the setup is taken as it is, but for what is said here.

    \b
    Examples:
      torchdecay forecast my_project:setup --epochs 10 --batch-size 128 --num-samples 50000
      torchdecay forecast my_project:setup --steps 10000 --schedule cosine --warmup-steps 500
      torchdecay forecast my_project:make_model --decay decoupled:0.1 --lr 1e-3 --steps 10000
      torchdecay forecast plan.json --optimizer AdamW --lr 1e-3 --steps 10000 --figure decay.svg
    """  # noqa: D301
    from torchdecay.observe.forecast.forecast import forecast as make
    from torchdecay.reports import figure as draw

    if decay is not None or is_saved(target):
        cls = None if optimizer is None else optimizer_class(optimizer)
        found = make(make_plan(target, decay, rules), optimizer=cls, run=run_from(run))
    else:
        for option, value in (("--optimizer", optimizer), ("--rules", rules)):
            if value is not None:
                raise UnitError(
                    f"{option} goes with a model.",
                    f"{target} brings its own optimizer.",
                    "Leave it out, or say --decay decoupled:0.1 for a model.",
                )
        setup = _setup(target)
        given: dict[str, Any] = {"run": run_from(run, setup.get("run")), "model": setup.get("model")}
        if setup.get("plan") is None:
            found = make(setup["optimizer"], **given)
        else:
            found = make(setup["plan"], optimizer=setup["optimizer"], **given)
    if figure is not None:
        drawn = draw(found, figure)
        if drawn != figure:
            click.echo(f"{figure} is there already; the picture is in {drawn}.", err=True)
    print_result(found, as_json)


def _setup(target: str) -> dict[str, Any]:
    try:
        return load_setup(target)
    except TaskError as error:
        if "not an optimizer" not in error.what:
            raise
        fix = f"{error.fix} For a model say what is to decay it: --decay decoupled:0.1."
        raise TaskError(error.what, error.why, fix) from error
