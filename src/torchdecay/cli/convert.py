"""`torchdecay convert`."""

from __future__ import annotations

from typing import Any

import click

from torchdecay.cli.inputs.options import gathered, given, options_of
from torchdecay.cli.inputs.runs import PARTS
from torchdecay.cli.output import json_option, print_json
from torchdecay.cli.types import COUNT, NUMBER
from torchdecay.errors import UnitError
from torchdecay.numbers import read_number
from torchdecay.text import spelled

_CONTEXT: dict[str, tuple[Any, str]] = {
    "lr": (NUMBER, "Learning rate at which the decay is counted."),
    **{name: PARTS[name] for name in ("num_samples", "batch_size", "accumulate", "steps", "epochs")},
    "max_lr": (NUMBER, "Peak of the learning rate."),
    "steps_per_epoch": (NUMBER, "Where num_samples and batch_size don't tell."),
    "tokens_per_sample": (COUNT, "For units in tokens."),
    "tokens_per_step": (NUMBER, "The same, per optimizer step."),
    "optimizer": (str, "sgd, adamw, ...: what its own weight_decay means."),
    "momentum": (NUMBER, "Of SGD."),
    "loss": (str, "mse, half_mse or cross_entropy, each the mean: for scikit-learn's units."),
}
"""What a conversion may need to know: its type and its help."""
_SECTIONS = (
    ("In the gradient or the loss", ("COUPLED",)),
    ("Beside the gradient", ("DECOUPLED",)),
    ("As a fraction per step (f) or a time", ("FRACTION",)),
    ("With L1", ("L1", "PAIR")),
)


def read_value(text: str) -> Any:
    """A number, or the pair that a comma makes."""
    numbers = [read_number(part) for part in text.split(",")]
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


@click.command()
@click.argument("value", required=False)
@click.argument("source", required=False)
@click.argument("target", required=False)
@gathered("context", given, *options_of(_CONTEXT))
@click.option("--list", "listing", is_flag=True, help="All units, with their equations.")
@json_option
def convert(
    value: str | None, source: str | None, target: str | None, listing: bool, as_json: bool, context: dict[str, Any]
) -> None:
    """The same decay in another unit: VALUE of unit SOURCE, in unit TARGET.

    Give what the two units need to know, and nothing else; what is missing is listed. A pair is written 0.1,0.5.

    \b
    Examples:
      torchdecay convert 0.1 decoupled half_life --lr 1e-3
      torchdecay convert 0.1 decoupled timescale_epochs --lr 1e-3 --num-samples 50000 --batch-size 128
      torchdecay convert 0.001 penalty coupled
      torchdecay convert 10 half_life_epochs decoupled --lr 1e-3 --steps-per-epoch 391
      torchdecay convert 1.0 ridge_alpha coupled --num-samples 442 --loss mse
      torchdecay convert 0.1,0.5 elastic_net l1_l2 --loss mse
      torchdecay convert --list
    """  # noqa: D301
    if listing:
        _list_units(as_json)
        return
    if value is None or source is None or target is None:
        raise UnitError(
            "convert needs VALUE SOURCE TARGET.",
            fix="Write torchdecay convert 0.1 decoupled half_life --lr 1e-3; --list shows all units.",
        )
    from torchdecay.observe.units.converting import convert as to
    from torchdecay.observe.units.converting import idle
    from torchdecay.observe.units.graph import UNITS

    read = read_value if source in UNITS and UNITS[source].pair else read_number
    found = to(read(value), source, target, **context)
    if unused := idle(source, target, context):
        options = ", ".join(f"--{name}".replace("_", "-") for name in unused)
        raise UnitError(
            f"from {source} to {target} nothing depends on {options}.",
            fix="Leave it out, or name the units that it belongs to; --list shows what each needs.",
        )
    pair = None if isinstance(found, float) else found._asdict()
    if as_json:
        told = {"value": pair or found, "unit": target, "source": {"value": read(value), "unit": source}}
        print_json(told | {"context": context})
    else:
        click.echo(", ".join(f"{key}={spelled(one)}" for key, one in pair.items()) if pair else spelled(found))


def _list_units(as_json: bool) -> None:
    """All units: name, equation, what each needs."""
    from torchdecay.observe.units.graph import UNITS

    if as_json:
        print_json({unit.name: {"equation": unit.equation, "needs": unit.needs} for unit in UNITS.values()})
        return
    lines = []
    for title, nodes in _SECTIONS:
        lines.append(f"{title}:")
        for unit in (unit for unit in UNITS.values() if unit.node.name in nodes):
            needs = f"  [{', '.join(unit.needs)}]" if unit.needs else ""
            lines.append(f"  {unit.name:<19}{unit.equation}{needs}")
    lines.append("native is weight_decay of --optimizer: coupled or decoupled. In brackets: what else a unit needs.")
    lines.append("The first two sections agree under plain SGD only; from λ to a time or fraction takes --lr as well.")
    click.echo("\n".join(lines))
