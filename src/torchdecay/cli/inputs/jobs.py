"""A command to sweep: what stands behind `--`, and the options that say how its metric is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchdecay.cli.inputs.names import FormsCommand
from torchdecay.cli.inputs.options import gathered, typed
from torchdecay.cli.types import COUNTS, NUMBER, PATH

if TYPE_CHECKING:
    from torchdecay.lab.jobs.command import Command

_META = "torchdecay.command"
_OF_TASKS = ("data", "target", "kind", "categorical", "steps", "groups", "lr_scales", "direction", "fork_at")


class CommandAfter(FormsCommand):
    """A command of ours whose own words end at the first `--`, behind which another command stands as it is."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the other command's words away before click sees them, which would drop the `--`."""
        place = args.index("--") if "--" in args else len(args)
        ctx.meta[_META] = tuple(args[place + 1 :]) if place < len(args) else None
        return super().parse_args(ctx, args[:place])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """TASK, or a command."""
        return ["[OPTIONS]", "TASK | -- COMMAND..."]


@dataclass(frozen=True)
class AskedJob:
    """How a command's metric is read, as it was asked for on the command line."""

    metric: str | None
    metric_file: str | None
    metric_tag: str | None
    take: Any
    maximize: bool | None
    rungs: list[int] | None
    lr: float | None
    time_limit: float | None
    fork: Path | None

    def command(self, ctx: click.Context, task: str | None) -> Command | None:
        """The command that stands behind `--`; None where there is a task instead.

        Raises:
            click.UsageError: neither or both, or options of the other.
            TaskError: a command that can't be swept.
        """
        words: tuple[str, ...] | None = ctx.meta[_META]
        if words is None:
            if task is None:
                raise click.UsageError("Missing TASK, or -- COMMAND.", ctx)
            if idle := typed(ctx, *self.__dataclass_fields__):
                raise click.BadParameter("it is for a command behind --, and this is a task.", param_hint=idle)
            return None
        if task is not None:
            what = f"{task!r} stands before --, and a command behind it."
            raise click.UsageError(f"{what} Sweep a TASK, or a command: what is behind -- is all of it.", ctx)
        if idle := typed(ctx, *_OF_TASKS):
            raise click.BadParameter("it is for a task, and this is a command.", param_hint=idle)
        if self.maximize is None:
            raise click.UsageError("Say what is better: add --minimize, as for a loss, or --maximize.", ctx)
        if typed(ctx, "rungs") and ctx.params["search"] != "halving":
            raise click.BadParameter("only halving has rungs; add --search halving.", param_hint="--rungs")
        if typed(ctx, "lr") and ctx.params["search"] != "halving":
            raise click.BadParameter("only halving asks for it; add --search halving.", param_hint="--lr")
        from torchdecay.lab.jobs.command import Command

        return Command(
            words,
            metric=self._reading(ctx),
            take=self.take,
            maximize=self.maximize,
            rungs=tuple(self.rungs or ()),
            lr=self.lr,
            time_limit=self.time_limit,
            checkpoint=self.fork,
        )

    def _reading(self, ctx: click.Context) -> Any:
        from torchdecay.lab.jobs.metrics import Filed, Printed, Tagged

        asked = [one for one in (self.metric, self.metric_file, self.metric_tag) if one is not None]
        if len(asked) != 1:
            what = "Nothing says" if not asked else "More than one option says"
            raise click.UsageError(
                f"{what} where the metric is: give one of --metric PATTERN, --metric-file FILE:KEY, --metric-tag TAG.",
                ctx,
            )
        if self.metric_file is not None:
            path, colon, key = self.metric_file.rpartition(":")
            return Filed(path, key) if colon else Filed(key, "")
        return Printed(asked[0]) if self.metric is not None else Tagged(asked[0])


job_options = gathered(
    "job",
    AskedJob,
    click.option("--metric", metavar="PATTERN", help=r"The metric in a command's output: 'val_loss=(\S+)'."),
    click.option("--metric-file", metavar="FILE:KEY", help="Or in JSON that it writes: '{out}/m.jsonl:val_loss'."),
    click.option("--metric-tag", metavar="TAG", help="Or a scalar of TensorBoard's in {out}."),
    click.option("--take", type=click.Choice(["last", "best"]), default="last", show_default=True, help="Which of it."),
    click.option("--maximize/--minimize", default=None, help="Whether more of the metric is better, or less."),
    click.option("--rungs", type=COUNTS, metavar="A,B,...", help="Halving looks after so many metrics."),
    click.option("--lr", type=NUMBER, metavar="LR", help="Of the command, for halving."),
    click.option("--fork", type=PATH, metavar="FILE", help="Runs go on from this checkpoint: {checkpoint} in them."),
    click.option("--time-limit", type=NUMBER, metavar="SECONDS", help="For each run of a command."),
)
"""How a command's metric is read; our command gets them as `job`."""
