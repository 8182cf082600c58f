"""`torchdecay example`."""

from __future__ import annotations

import click

from torchdecay.cli.output import json_option
from torchdecay.cli.types import NUMBER


@click.command()
@click.option(
    "--decay",
    "decays",
    multiple=True,
    type=NUMBER,
    metavar="NUMBER",
    help="Weight decay; may be repeated.  [default: 0 and 1]",
)
@json_option
def example(decays: tuple[float, ...], as_json: bool) -> None:
    """One step of SGD with weight decay, number by number.

    Prints the gradient of the loss and the gradient of the penalty side by side, the learning rate times each, and
    the new weights.

    \b
    Examples:
      torchdecay example
      torchdecay example --decay 0.1 --decay 0.5
    """  # noqa: D301
    from torchdecay.lab.example import worked_example

    made = worked_example(*decays)
    click.echo(made.to_json() if as_json else made.text)
