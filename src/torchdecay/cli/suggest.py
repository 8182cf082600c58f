"""`torchdecay suggest`."""

from __future__ import annotations

from typing import Any

import click

from torchdecay.cli.inputs.runs import read_run, run_from, run_options
from torchdecay.cli.output import json_option, print_result
from torchdecay.errors import UnitError
from torchdecay.numbers import read_count, read_number


def read_known(text: str) -> tuple[Any, ...]:
    """`0.1,lr=1e-3,epochs=10,...` as (value, run), or (value, run, num_params)."""
    value, _, rest = text.partition(",")
    try:
        number = read_number(value)
    except UnitError as error:
        raise UnitError(
            f"--known begins with {value!r}, not with a number.",
            fix="Write the weight decay first: --known 0.1,lr=1e-3,epochs=10,batch_size=128,num_samples=50000.",
        ) from error
    run, more = read_run(rest, also=("num_params",))
    return (number, run, more["num_params"]) if more else (number, run)


def _size_or_model(target: str | None) -> Any:
    if target is None:
        return None
    if target[0].isdigit():
        return read_count(target)
    from torchdecay.cli.inputs.models import load_model

    return load_model(target)


@click.command()
@click.argument("target", required=False)
@run_options
@click.option("--optimizer", metavar="NAME", help="adamw, sgd, ...")
@click.option("--rule", metavar="NAME", help="timescale, tokens_per_parameter or inherit.  [default: what applies]")
@click.option("--known", metavar="VALUE,lr=...,...", help="A weight decay that was good in another run, to inherit.")
@json_option
def suggest(
    target: str | None, run: dict[str, Any], optimizer: str | None, rule: str | None, known: str | None, as_json: bool
) -> None:
    """Which weight decay to start from in a run, a range to sweep, and whose word that is.

    TARGET is a model as for plan, or its number of parameters; only language models (--tokens-per-sample) need it.

    \b
    Examples:
      torchdecay suggest --lr 1e-3 --epochs 10 --batch-size 128 --num-samples 50000
      torchdecay suggest 124_000_000 --lr 6e-4 --steps 5000 --batch-size 480 --tokens-per-sample 1024 \
        --known 0.1,lr=6e-4,steps=1000,batch_size=480,tokens_per_sample=1024,num_params=124000000
      torchdecay suggest --lr 2e-3 --steps 1000 --known 0.05,lr=1e-3,steps=4000
    """  # noqa: D301
    from torchdecay.observe.units.suggesting import suggest as make

    known_run = None if known is None else read_known(known)
    made = make(_size_or_model(target), run=run_from(run), optimizer=optimizer, rule=rule, known=known_run)
    print_result(made, as_json)
