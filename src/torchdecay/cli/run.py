"""`torchdecay run`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from torchdecay.cli.types import POSITIVE, Paths
from torchdecay.integrations.script.command import Split, become, refuse_flag_of_python, split
from torchdecay.integrations.script.options import FAILING, Options, name_of

F = TypeVar("F", bound=Callable[..., Any])


class ScriptCommand(click.Command):
    """A command whose options end where the script begins."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The script's words are no arguments of click's, and belong to the usage all the same."""
        return [*super().collect_usage_pieces(ctx), "SCRIPT [ARGS]..."]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the script's words away before click sees them."""
        with_value = {
            name
            for option in self.params
            if isinstance(option, click.Option) and not option.is_flag
            for name in (*option.opts, *option.secondary_opts)
        }
        found = split(args, with_value)
        ctx.meta["torchdecay.script"] = found
        try:
            return super().parse_args(ctx, list(found.ours))
        except click.NoSuchOption as error:
            refuse_flag_of_python(error.option_name)
            raise


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """An option with its environment variable, which the help names."""
    return click.option(*names, envvar=name_of(names[-1].strip("-").replace("-", "_")), show_envvar=True, **settings)


@click.command(cls=ScriptCommand, options_metavar="[OPTIONS]", epilog="")
@option(
    "--out",
    type=Paths(),
    default="torchdecay-run",
    show_default=True,
    metavar="DIR",
    help="Folder of the page; kept if there.",
)
@option("--overwrite", is_flag=True, help="Replace DIR, where an earlier run wrote it.  [default: write DIR-2]")
@option("--every", type=POSITIVE, default=100, show_default=True, help="Steps from record to record.")
@option("--by", type=click.Choice(["role", "block", "tensor"]), default="role", show_default=True, help="Groups.")
@option("--steps", type=POSITIVE, metavar="N", help="How long the run is, where nobody knows it.")
@option("--apply", default="", metavar="DECAY", help="In place of the script's own: decoupled:0.1, none, plan.json.")
@option("--rules", default="standard", show_default=True, help="Who decays under --apply.")
@option("--optimizer", default="", metavar="NAMES", help="Which get --apply: AdamW, or 2.  [default: all]")
@option(
    "--fail-on",
    type=click.Choice([*FAILING]),
    default="never",
    show_default=True,
    help="Exit 1 on such findings.",
)
@option("--plan", default="", metavar="FILE", help="The plan that must be at work; what differs is a finding.")
@option("--stop-after", type=POSITIVE, metavar="N", help="End the script after N steps.")
@option("--live", is_flag=True, help="Write the page every minute.  [default: for 1 % of the time]")
@option("-q", "--quiet", is_flag=True, help="Say nothing on stderr.")
@click.pass_context
def run(ctx: click.Context, /, **given: Any) -> None:
    """Run a script as it is, and see what decay does in it.

    Write `torchdecay run` in front of what you run today: SCRIPT [ARGS]..., -m package.module [ARGS]..., -c CODE, or
    -- COMMAND, such as torchrun, whose Python processes are looked into. All behind it is the script's own. It ends
    with the same weights, output and exit code as without torchdecay.

    At the first step of each optimizer: audit, plan and forecast. While it trains: a monitor. At the end: planned
    against measured, and a page, DIR/index.html. TORCHDECAY_DISABLE=1 switches all of this off.

    With --apply each optimizer gets another decay before its first step. The exit code is the script's own, but for
    --fail-on: 1 where something was found, 2 where something could not be looked at.

    \b
    Examples:
      torchdecay run train.py --lr 1e-3
      torchdecay run --every 10 --out runs/a -m my_project.train
      torchdecay run --apply decoupled:0.1 train.py
      torchdecay run --stop-after 1 --fail-on warning --plan plan.json train.py
      torchdecay run -- torchrun --nproc-per-node 2 train.py
      torchrun --nproc-per-node 2 -m torchdecay run train.py
    """  # noqa: D301
    words: Split = ctx.meta["torchdecay.script"]
    options = Options(**{name: value for name, value in given.items() if value is not None})
    if options.apply or options.plan:
        from torchdecay.integrations.script.applying import check

        check(options)
    become(words, options)
