"""`torchdecay verify`."""

from __future__ import annotations

import click

from torchdecay.cli.inputs.setups import load_setup
from torchdecay.cli.output import json_option, print_result


@click.command()
@click.argument("target")
@click.option("--allow-hooks", is_flag=True, help="Run step hooks that are not torchdecay's while measuring.")
@json_option
@click.pass_context
def verify(ctx: click.Context, target: str, allow_hooks: bool, as_json: bool) -> None:
    """Measure what each parameter group really does to its weights.

    TARGET is as for audit. Steps are taken on small tensors lent to your optimizer; its own weights, state and random
    numbers are put back bit for bit. Exit code 1 when a group does something else than it should.

    \b
    Examples:
      torchdecay verify my_project:make_optimizer
      torchdecay verify my_project:setup --json
    """  # noqa: D301
    from torchdecay.observe.verify.verify import verify as measure

    setup = load_setup(target)
    told = {key: setup[key] for key in ("plan", "model") if key in setup}
    found = measure(setup["optimizer"], allow_hooks=allow_hooks, **told)
    print_result(found, as_json)
    ctx.exit(0 if found.ok else 1)
