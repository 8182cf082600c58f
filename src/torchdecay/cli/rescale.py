"""`torchdecay rescale`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from torchdecay.cli.inputs.runs import read_run
from torchdecay.cli.output import json_option, print_result
from torchdecay.cli.types import NUMBER
from torchdecay.errors import DecayError, UnitError
from torchdecay.numbers import read_count, read_number
from torchdecay.text import repr_quoted

if TYPE_CHECKING:
    from torchdecay.plans.decay import Decay


def read_pair(text: str | None, option: str) -> tuple[int, int] | None:
    """`256,1024` as two whole numbers."""
    if text is None:
        return None
    try:
        old, new = map(read_count, text.split(","))
    except ValueError as error:
        raise UnitError(
            f"{option} is {repr_quoted(text)}.", fix=f"Write two whole numbers, before and after: {option} 256,1024."
        ) from error
    return old, new


def read_decay(text: str) -> float | Decay:
    """A number as it is, else the decay that `text` spells."""
    from torchdecay.plans.spelling import parse_decay

    if ":" not in text and not text.strip().isalpha():
        return read_number(text)
    parsed = parse_decay(text)
    if parsed is None:
        raise DecayError(f"there is nothing to rescale in {repr_quoted(text)}.", fix="Give a number.")
    return parsed


@click.command()
@click.argument("decay")
@click.option("--before", metavar="lr=...,epochs=...", help="The run in which it was good.")
@click.option("--after", metavar="lr=...,epochs=...", help="The run to come.")
@click.option("--rule", metavar="NAME", help="Only this rule.  [default: all, side by side]")
@click.option("--num-params", metavar="OLD,NEW", help="Parameters of the model, for tokens_per_parameter.")
@click.option("--width", metavar="OLD,NEW", help="Width of the model.")
@click.option("--width-exponent", type=NUMBER, help="Your own exponent of the width.  [default: each source's]")
@json_option
def rescale(
    decay: str,
    before: str | None,
    after: str | None,
    rule: str | None,
    num_params: str | None,
    width: str | None,
    width_exponent: float | None,
    as_json: bool,
) -> None:
    """What a weight decay becomes when learning rate, batch, data, length or width change.

    DECAY is a number (decoupled), or independent:1e-4 and the like. A run is written lr=1e-3,epochs=10,batch_size=128,
    num_samples=50000, and may have steps, accumulate, tokens_per_sample, lr_schedule and warmup_steps. Where sources
    disagree, all are shown.

    \b
    Examples:
      torchdecay rescale 0.05 --before lr=1e-3,steps=1000 --after lr=3e-3,steps=1000
      torchdecay rescale 0.05 --before lr=1e-3,steps=4000 --after lr=2e-3,steps=1000
      torchdecay rescale 0.1 --width 256,1024
      torchdecay rescale 0.1 --width 256,1024 --width-exponent 0.5
    """  # noqa: D301
    from torchdecay.observe.units.rescaling import rescale as make

    found = make(
        read_decay(decay),
        before=None if before is None else read_run(before)[0],
        after=None if after is None else read_run(after)[0],
        rule=rule,
        num_params=read_pair(num_params, "--num-params"),
        width=read_pair(width, "--width"),
        width_exponent=width_exponent,
    )
    print_result(found, as_json)
