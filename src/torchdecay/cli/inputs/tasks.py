"""What the commands that train share: naming a task, its data, and seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchdecay.arguments import store
from torchdecay.cli.inputs.names import Known
from torchdecay.cli.inputs.options import Decorator, gathered
from torchdecay.cli.output import print_json
from torchdecay.cli.types import COUNTS, PATH, POSITIVE

if TYPE_CHECKING:
    from torchdecay.lab.storage.store import Store
    from torchdecay.lab.tasks.task import Task


@dataclass(frozen=True)
class AskedTask:
    """A task as it was asked for on the command line."""

    task: str | None
    data: Path | None
    target: str | None
    kind: Any
    categorical: tuple[str, ...]
    steps: int | None
    seeds: Any

    def __post_init__(self) -> None:
        # A number alone says how many.
        if self.seeds is not None and len(self.seeds) == 1:
            store(self, seeds=self.seeds[0])

    def load(self) -> Task:
        """The task.

        Raises:
            TaskError: no such task, or a file that can't be used.
        """
        from torchdecay.lab.tasks.registry import task_named

        assert self.task is not None
        made = task_named(self.task, data=self.data, target=self.target, kind=self.kind, categorical=self.categorical)
        return made if self.steps is None else replace(made, num_steps=self.steps)

    @property
    def words(self) -> list[str]:
        """As it is typed after the name of a command."""
        options = [(f"--{name}", getattr(self, name)) for name in ("data", "target", "kind", "steps")]
        options += [("--categorical", name) for name in self.categorical]
        return [self.task or "", *(str(word) for option in options if option[1] is not None for word in option)]


def _store(store: Path | None, resume: bool) -> Store | None:
    if store is None:
        if resume:
            fix = "there is no store to resume from; name it: --store runs.db."
            raise click.BadParameter(fix, param_hint="--resume")
        return None
    from torchdecay.lab.storage.store import Store

    return Store(store, resume=resume)


store_options = gathered(
    "store",
    _store,
    click.option("--store", type=PATH, help="Keep each finished run in this SQLite file at once."),
    click.option("--resume", is_flag=True, help="Go on with what the store holds."),
)


def _list_tasks(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from torchdecay.lab.tasks.catalog import ABOUT

        if "--json" in ctx.find_root().obj:
            print_json(ABOUT)
        else:
            width = max(map(len, ABOUT))
            click.echo("\n".join(f"{name:{width}}  {about}" for name, about in ABOUT.items()))
        ctx.exit()


_options = (
    click.option("--seeds", type=COUNTS, metavar="N|A,B,...", help="How many seeds, or which.  [default: the task's]"),
    click.option("--steps", type=POSITIVE, help="Optimizer steps of each run.  [default: the task's]"),
    click.option("--data", type=PATH, help="The file, for csv; a folder, for fashion."),
    click.option("--target", metavar="COLUMN", help="The column to predict, for csv."),
    click.option("--kind", type=click.Choice(["classification", "regression"]), help="For csv, where it is not clear."),
    click.option("--categorical", multiple=True, metavar="COLUMN", help="For csv: numbers that are names; repeat it."),
    click.option(
        "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_tasks, help="List the tasks."
    ),
)


def task_options(*, required: bool = True) -> Decorator:
    """TASK, its data and steps, its seeds, and the list of tasks; the command gets them as `task`."""
    named = click.argument("task", type=Known("lab.tasks.catalog:ABOUT"), metavar="TASK", required=required)
    return gathered("task", AskedTask, named, *_options)
