"""`torchdecay sweep`."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchdecay.cli.group import as_typed
from torchdecay.cli.inputs.tasks import named_task, task_options
from torchdecay.cli.output import json_option, require_writable, where, with_page

if TYPE_CHECKING:
    from torchdecay.lab.sweeps.result import Sweep


@click.command()
@task_options
@click.option("--form", default="decoupled", show_default=True, metavar="NAME", help="The form of decay.")
@click.option("--from", "low", type=float, default=1e-4, show_default=True, help="Where the range starts, above 0.")
@click.option("--to", "high", type=float, default=10.0, show_default=True, help="Where it ends.")
@click.option("--points", type=int, default=12, show_default=True, help="How many values in all.")
@click.option("--value", "values", type=float, multiple=True, help="Try this value, and no range; repeat it.")
@click.option("--lr-scale", "lr_scales", type=float, multiple=True, help="Also try this times the lr; repeat it.")
@click.option("--group", "groups", multiple=True, metavar="NAME=PATTERN", help="A value for each group; repeat it.")
@click.option("--search", default="grid", show_default=True, help="grid, random, tpe or halving.")
@click.option("--rule", default="best", show_default=True, help="best, or one_se: the largest within 1 SE of it.")
@click.option("--engine", default="auto", show_default=True, help="auto, serial, process, stacked or ray.")
@click.option("--workers", type=int, help="Runs at once, for process and ray.  [default: one per core]")
@click.option("--ray-address", metavar="HOST:PORT", help="A running Ray cluster, or auto.  [default: Ray started here]")
@click.option("--ray-cpus", type=float, metavar="N", help="CPUs of a run on Ray.  [default: the task's threads]")
@click.option("--ray-gpus", type=float, metavar="N", help="GPUs of a run on Ray, 0.5 for half a one.  [default: 0]")
@click.option("--direction", is_flag=True, help="Then say on which parts decay should be stronger or weaker.")
@click.option("--store", type=click.Path(path_type=Path), help="Keep each finished run in this SQLite file at once.")
@click.option("--resume", is_flag=True, help="Go on with what the store holds.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for results.  [default: torchdecay-sweep-TASK]")
@json_option
@click.pass_context
def sweep(
    ctx: click.Context,
    task: str,
    seeds: Any,
    steps: int | None,
    data: Path | None,
    target: str | None,
    kind: Any,
    categorical: tuple[str, ...],
    form: str,
    low: float,
    high: float,
    points: int,
    values: tuple[float, ...],
    lr_scales: tuple[float, ...],
    groups: tuple[str, ...],
    search: str,
    rule: Any,
    engine: str,
    workers: int | None,
    ray_address: str | None,
    ray_cpus: float | None,
    ray_gpus: float | None,
    direction: bool,
    store: Path | None,
    resume: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Find the value: train a task with many, and say which to take and how sure that is.

    The choice is made on validation rows (a fifth of the training rows where the task has none of its own); the test
    rows are looked at once, for the chosen value. The run without decay is always made.

    TASK is what compare takes: a name from --list, csv, or module:function for your own.

    \b
    How values are found (--search):
      grid     powers of ten first, then the rest of --points around the best
      random   drawn from the range
      tpe      drawn where earlier ones did well (Optuna)
      halving  a grid of which only the better third goes on at 1/9 and at 1/3 of the steps

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
      torchdecay sweep my_tasks:small --engine ray --ray-address 10.0.0.1:6379 --ray-gpus 1
    """  # noqa: D301
    from torchdecay.cli.progress import Bar
    from torchdecay.lab.engines.engine import Engine
    from torchdecay.lab.sweeps.search import Search
    from torchdecay.lab.sweeps.store import Store
    from torchdecay.lab.sweeps.sweep import sweep as run
    from torchdecay.reports import report

    if resume and store is None:
        raise click.BadParameter("there is no store to resume from; name it: --store sweep.db.", param_hint="--resume")
    made = named_task(task, steps=steps, data=data, target=target, kind=kind, categorical=categorical)
    folder = out or Path(f"torchdecay-sweep-{made.name}")
    require_writable(folder)
    with Bar(made.name) as bar:
        result = run(
            made,
            form,
            list(values) or None,
            seeds=seeds,
            groups=_groups(groups),
            search=Search(low, high, kind=search, points=points, lr_scales=lr_scales or (1.0,)),
            rule=rule,
            engine=Engine(engine, **_engine_options(engine, workers, ray_address, ray_cpus, ray_gpus)),
            store=None if store is None else Store(store, resume=resume),
            direction=direction,
            on_progress=bar.sweep,
        )
    words = {"--data": data, "--target": target, "--kind": kind, "--steps": steps}
    said = [task, *(str(word) for pair in words.items() if pair[1] is not None for word in pair)]
    said += [word for name in categorical for word in ("--categorical", name)]
    result = result.with_command(shlex.join(["torchdecay", *as_typed(ctx)]), shlex.join(said))
    # Without a single run there is nothing to show, and earlier results are worth more than an empty page.
    page = report(result, folder) if result.runs else None
    if as_json:
        click.echo(with_page(result, page))
    else:
        print_sweep(result)
        click.echo(where(page))
    ctx.exit(1 if result.interrupted or result.failures else 0)


def _engine_options(
    engine: str, workers: int | None, address: str | None, cpus: float | None, gpus: float | None
) -> dict[str, Any]:
    rays = {"address": address, "num_cpus": cpus, "num_gpus": gpus}
    given = {name: value for name, value in rays.items() if value is not None}
    if given and engine != "ray":
        raise click.BadParameter(f"the engine is {engine}; add --engine ray.", param_hint="--ray-address/-cpus/-gpus")
    return given if workers is None else given | {"workers": workers}


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


def print_sweep(result: Sweep) -> None:
    """What each value measured, what failed, and the verdict."""
    from rich.console import Console

    from torchdecay.reports import verdict
    from torchdecay.reports.sweep.advice import next_command

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    console.print(f"\n{result.title}: {result.form}", style="bold", markup=False)
    why = f" ({result.why_engine})" if result.why_engine else ""
    console.print(f"{len(result.runs)} runs by the engine {result.engine}{why}.", style="dim", markup=False)
    for note in result.notes:
        console.print(note, style="dim", markup=False)
    console.print()
    console.print(_table(result))
    console.print()
    for failure in result.failures:
        console.print(f"FAILED {failure.label}, seed {failure.seed}: {failure.message}", style="red", markup=False)
    for line in verdict(result).splitlines():
        console.print(f"* {line}", markup=False)
    if command := next_command(result):
        console.print(f"\nNext: {command}", markup=False, soft_wrap=True)


def _table(result: Sweep) -> Any:
    from rich.table import Table

    from torchdecay.text import step_count

    chosen = result.best
    meanings = {meaning.label: meaning for meaning in result.meanings}
    score = result.score_name
    curves = [("train_loss", "train loss"), ("validation_loss", "validation loss")]
    curves += [("validation_score", f"validation {score}")] if score else []
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("", "seeds", *(title for _, title in curves), "weight norm", "half-life"):
        table.add_column(title, justify="left" if not title else "right", no_wrap=not title)
    for one in result.curve:
        cells = []
        for name, _ in (*curves, ("weight_norm", "")):
            middle, spread = one.finals.get(name, (None, None))
            told = "" if spread is None or name == "weight_norm" else f" ±{spread:.3f}".replace("±0.", "±.")
            cells.append("-" if middle is None else f"{middle:.3f}{told}")
        if one.stopped and not one.num_runs:
            cells[0] = f"stopped at {one.stopped[-1]:,}"
        life = meanings[one.point.label].half_life if one.point.label in meanings else None
        mark = "> " if chosen is not None and one.point == chosen.point else "  "
        table.add_row(
            f"{mark}{one.point.label}",
            str(one.num_runs),
            *cells,
            "-" if life is None else "never" if life == math.inf else f"{step_count(life)} steps",
        )
    return table
