"""What the commands that train share: naming a task, its data, and seeds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torchdecay.lab.tasks.task import Task


class Seeds(click.ParamType):  # type: ignore[type-arg]
    """How many seeds, or which: `3`, or `0,7,42`."""

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A count, or the seeds."""
        try:
            return [int(part) for part in value.split(",")] if "," in value else int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor numbers with commas between.", param, ctx)


def _list_tasks(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from torchdecay.lab.tasks.catalog import ABOUT

        width = max(map(len, ABOUT))
        click.echo("\n".join(f"{name:{width}}  {about}" for name, about in ABOUT.items()))
        ctx.exit()


def task_options(command: Any) -> Any:
    """TASK, its data, seeds, steps and the list of tasks."""
    for option in reversed(
        [
            click.argument("task"),
            click.option(
                "--seeds", type=Seeds(), metavar="N|A,B,...", help="How many seeds, or which.  [default: the task's]"
            ),
            click.option(
                "--steps", type=click.IntRange(min=1), help="Optimizer steps of each run.  [default: the task's]"
            ),
            click.option("--data", type=click.Path(path_type=Path), help="The file, for csv; a folder, for fashion."),
            click.option("--target", metavar="COLUMN", help="The column to predict, for csv."),
            click.option(
                "--kind",
                type=click.Choice(["classification", "regression"]),
                help="For csv, where the column does not tell.",
            ),
            click.option(
                "--categorical",
                multiple=True,
                metavar="COLUMN",
                help="For csv: numbers that are names in truth; repeat it.",
            ),
            click.option(
                "--list",
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_list_tasks,
                help="List the tasks.",
            ),
        ]
    ):
        command = option(command)
    return command


def named_task(
    task: str, *, steps: int | None, data: Path | None, target: str | None, kind: Any, categorical: tuple[str, ...]
) -> Task:
    """The task that the options name.

    Raises:
        TaskError: no such task, or a file that can't be used.
    """
    from torchdecay.lab.tasks.registry import task_named

    made = task_named(task, data=data, target=target, kind=kind, categorical=categorical)
    return made if steps is None else dataclasses.replace(made, num_steps=steps)
