"""`torchdecay sweep`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchdecay.cli.group import as_typed
from torchdecay.cli.inputs.jobs import AskedJob, CommandAfter, job_options
from torchdecay.cli.inputs.names import FORMS, Known
from torchdecay.cli.inputs.options import gathered, given, typed
from torchdecay.cli.inputs.tasks import AskedTask, store_options, task_options
from torchdecay.cli.output import SoFar, finish, json_option, out_option, overwrite_option, require_writable
from torchdecay.cli.types import COUNT, NUMBER, POSITIVE

if TYPE_CHECKING:
    from torchdecay.lab.engines.engine import Engine
    from torchdecay.lab.storage.store import Store

SEARCHES, ENGINES = Known("lab.sweeps.search:KINDS"), Known("lab.engines.engine:MODULES")
search_options = gathered(
    "search",
    given,
    click.option("--from", "low", type=NUMBER, help="Where the range starts.  [default: from the task's time scale]"),
    click.option("--to", "high", type=NUMBER, help="Where it ends.  [default: likewise]"),
    click.option("--points", type=COUNT, default=12, show_default=True, help="How many values in all."),
    click.option("--lr-scale", "lr_scales", type=NUMBER, multiple=True, help="Also try this times the lr; repeat it."),
    click.option("--search", type=SEARCHES, default="grid", show_default=True, help="How values are found."),
    click.option("--race", is_flag=True, help="From the fifth seed on, clearly worse values get no further ones."),
)
engine_options = gathered(
    "engine",
    given,
    click.option("--engine", type=ENGINES, default="auto", show_default=True, help="What runs the trainings."),
    click.option("--workers", type=POSITIVE, help="Runs at once, for process and ray.  [default: one per core]"),
    click.option("--ray-address", metavar="HOST:PORT", help="A running cluster, or auto.  [default: Ray started here]"),
    click.option("--ray-cpus", type=NUMBER, metavar="N", help="CPUs of a run on Ray.  [default: the task's threads]"),
    click.option("--ray-gpus", type=NUMBER, metavar="N", help="GPUs of a run on Ray, also 0.5.  [default: 0]"),
)


@click.command(cls=CommandAfter)
@task_options(required=False)
@job_options
@click.option("--form", type=FORMS, metavar="NAME", default="decoupled", show_default=True, help="The form of decay.")
@search_options
@click.option("--value", "values", type=NUMBER, multiple=True, help="Try this value, and no range; repeat it.")
@click.option("--group", "groups", multiple=True, metavar="NAME=PATTERN", help="A value for each group; repeat it.")
@click.option("--rule", default="best", show_default=True, help="best, or one_se: the largest within 1 SE of it.")
@engine_options
@click.option("--fork-at", type=POSITIVE, metavar="STEP", help="Of a task: values differ from this step on only.")
@click.option("--direction", is_flag=True, help="Then say on which parts decay should be stronger or weaker.")
@store_options
@out_option("Folder for results.  [default: torchdecay-sweep-TASK]")
@overwrite_option
@json_option
@click.pass_context
def sweep(
    ctx: click.Context,
    task: AskedTask,
    job: AskedJob,
    form: str,
    search: dict[str, Any],
    values: tuple[float, ...],
    groups: tuple[str, ...],
    rule: Any,
    engine: dict[str, Any],
    direction: bool,
    fork_at: int | None,
    store: Store | None,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Find the value: train a task, or run a command, with many, and say which to use and how sure that is.

    The choice is made on validation rows (a fifth of the training rows where the task has none of its own); the test
    rows are looked at once, for the chosen value. The run without decay is always made.

    TASK is what compare takes: a name from --list, csv, or module:function for your own.

    COMMAND is what you run today: {value}, {seed} and {out}, a folder of its own, are filled in for each run. Without
    {value} it runs under torchdecay run --apply. --metric says where its result is read.

    \b
    How values are found (--search):
      grid     the ends and the powers of ten between, then the rest of --points around the best
      random   drawn from the range
      tpe      drawn where earlier ones did well (Optuna)
      gp       drawn where the best may be, by a Gaussian process over log value with the noise of the seeds
      halving  a grid of which only the better third goes on at 1/9 and at 1/3 of the steps, or once decay has acted

    With --store a kill at any moment costs the runs in flight only: the same command with --resume goes on. Ctrl-C
    ends early and shows what is finished. Optuna's dashboard opens the store.

    --direction trains on from the chosen value: under AdamW twice more for each part of the model and seed.

    \b
    Examples:
      torchdecay sweep digits --seeds 3
      torchdecay sweep digits --from 0.1 --to 100 --points 16 --store sweep.db --resume
      torchdecay sweep csv --data houses.csv --target price --search halving
      torchdecay sweep digits --value 1 --value 10 --lr-scale 0.5 --lr-scale 1 --lr-scale 2
      torchdecay sweep digits --group body=[02].* --group head=* --points 16
      torchdecay sweep --metric 'loss=(.+)' --minimize --from 0.01 --to 1 -- python train.py --wd {value}
      torchdecay sweep my_tasks:small --engine ray --ray-address 10.0.0.1:6379 --ray-gpus 1
    """  # noqa: D301
    from torchdecay.cli.progress import Bar
    from torchdecay.cli.tables import print_sweep
    from torchdecay.lab.sweeps.search import Search
    from torchdecay.lab.sweeps.sweep import sweep as run

    if values and (idle := typed(ctx, "low", "high", "points")):
        raise click.BadParameter("--value names the values, and no range is searched; leave it out.", param_hint=idle)
    kind, made = search.pop("search"), job.command(ctx, task.task)
    trained = made or task.load()
    folder = out or Path(f"torchdecay-sweep-{trained.name}")
    require_writable(folder)
    command, so_far = (as_typed(ctx), shlex.join(task.words) if made is None else ""), SoFar(folder)
    with Bar(trained.name) as bar:
        result = run(
            trained if made is None else made.into(folder),
            form if made is None or typed(ctx, "form") else None,
            list(values) or None,
            seeds=task.seeds,
            groups=_groups(groups),
            search=Search(kind=kind, **search | {"lr_scales": search["lr_scales"] or (1.0,)}),
            rule=rule,
            engine=_engine(engine),
            store=store,
            direction=direction,
            fork_at=fork_at,
            on_progress=bar,
            on_result=lambda result: so_far(result.with_command(*command)),
        )
    finish(ctx, result.with_command(*command), folder, print_sweep, so_far, overwrite=overwrite, as_json=as_json)


def _engine(asked: dict[str, Any]) -> Engine:
    from torchdecay.lab.engines.engine import Engine

    name = asked["engine"]
    rays = {"ray_address": "address", "ray_cpus": "num_cpus", "ray_gpus": "num_gpus"}
    if name != "ray" and not asked.keys().isdisjoint(rays):
        raise click.BadParameter(f"the engine is {name}; add --engine ray.", param_hint="--ray-address/-cpus/-gpus")
    return Engine(name, **{rays.get(key, key): value for key, value in asked.items() if key != "engine"})


def _groups(pairs: tuple[str, ...]) -> dict[str, str] | None:
    made: dict[str, str] = {}
    for pair in pairs:
        name, equals, pattern = pair.partition("=")
        if not (name and equals and pattern):
            raise click.BadParameter(f"{pair!r} is not NAME=PATTERN; head=fc.*, say.", param_hint="--group")
        if name in made:
            raise click.BadParameter(f"the group {name!r} is named twice.", param_hint="--group")
        made[name] = pattern
    return made or None
