"""Comparisons and sweeps on a terminal: tables of their curves and finals, what failed, and the verdict."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from torchdecay.tables import RIGHT, rich_table
from torchdecay.text import listing, number, step_count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.sweeps.result import Sweep
    from torchdecay.lab.training.results import Failure

POINTS = 10


def print_comparison(result: Comparison) -> None:
    """Curves at ten points, final numbers, what decay did, failures and the verdict."""
    from torchdecay.reports import verdict
    from torchdecay.reports.comparison.planned_and_measured import acting_remarks

    tables = [_curves(result), _finals(result), *_acting(result)] if result.runs else []
    _print(result, result.title, result.notes, tables, [*verdict(result).splitlines(), *acting_remarks(result)])


def print_sweep(result: Sweep) -> None:
    """What each value measured, what failed, the verdict, and what to type next."""
    from torchdecay.reports import verdict
    from torchdecay.reports.sweep.advice import next_command

    why = f" ({result.why_engine})" if result.why_engine else ""
    said = f"{len(result.runs)} runs by the engine {result.engine}{why}."
    tables = [_points(result)] if result.runs else []
    title = f"{result.title}: {result.form}"
    _print(result, title, [said, *result.notes], tables, verdict(result).splitlines())
    if command := next_command(result):
        _console().print(f"\nNext: {command}", markup=False, soft_wrap=True)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 110)


def _print(
    result: Comparison | Sweep, title: str, notes: Iterable[str], tables: Iterable[Table], verdict: Iterable[str]
) -> None:
    console, failures = _console(), result.failures
    if not result.runs and (first := next(iter(failures), None)) is not None:
        console.print(f"\nEvery run failed: {first.message}", style="red", markup=False, soft_wrap=True)
        if said := first.traceback.strip():
            console.print(f"The end of what {first.label} with seed {first.seed} said:\n{said}", markup=False)
    console.print(f"\n{title}", style="bold", markup=False)
    for note in notes:
        console.print(note, style="dim", markup=False)
    console.print()
    for table in tables:
        console.print(table, "")
    alike: dict[str, list[Failure]] = {}
    for failure in failures:
        alike.setdefault(failure.message, []).append(failure)
    for message, (one, *others) in alike.items():
        also = listing([f"{other.label} seed {other.seed}" for other in others], most=6)
        told = f"FAILED {one.label}, seed {one.seed}: {message}" + (f" (so did {also})" if also else "")
        console.print(told, style="red", markup=False)
    for line in verdict:
        console.print(f"* {line}", markup=False)


def _curves(result: Comparison) -> Table:
    """Mean training and test loss at evenly spaced steps."""
    labels = [label for label in result.labels if result.of(label)]
    steps = result.of(labels[0])[0].steps
    stride = max(1, (len(steps) - 1) // POINTS)

    def mean(label: str, curve: str, i: int) -> str:
        values = [getattr(run, curve)[i] for run in result.of(label)]
        return number(sum(values) / len(values))

    curves = [(label, curve) for label in labels for curve in ("train_loss", "test_loss")]
    heads = [result.step_name, *(head for label in labels for head in (f"{label}\ntrain", "\ntest"))]
    places = sorted({*range(0, len(steps), stride), len(steps) - 1})
    rows = [[f"{steps[i]:,}", *(mean(label, curve, i) for label, curve in curves)] for i in places]
    return rich_table([(head, RIGHT) for head in heads], rows)


def _finals(result: Comparison) -> Table:
    """Final numbers, as mean ± spread over seeds."""
    curves = ["train_loss", "test_loss", "gap", *(["train_score", "test_score"] if result.score_name else [])]
    curves += ["weight_norm", "gradient_norm"]
    titles = [name.replace("_", " ").replace("score", result.score_name) for name in curves]
    rows = [
        [label, str(len(result.of(label))), *(_cell(name, *result.mean_and_spread(label, name)) for name in curves)]
        for label in result.labels
        if result.of(label)
    ]
    return rich_table(["at the end", ("seeds", RIGHT), *((title, RIGHT) for title in titles)], rows)


def _acting(result: Comparison) -> Iterator[Table]:
    """What decay was to do, and what it did, where something decays."""
    from torchdecay.reports.comparison.planned_and_measured import acting_rows

    rows = [(label, *cells[:5]) for label, _, *cells in acting_rows(result)]
    heads = ("per step", "half-life", "time scale", "takes: forecast", "measured")
    if rows:
        yield rich_table(["decay alone", *((head, RIGHT) for head in heads)], rows)


def _points(result: Sweep) -> Table:
    """What each value measured at its end."""
    curves = ["train_loss", "validation_loss", *(["validation_score"] if result.score_name else []), "weight_norm"]
    curves = [result.measure] if result.metric else curves
    titles = [result.metric or name.replace("_", " ").replace("score", result.score_name) for name in curves]
    lives = {meaning.label: meaning.half_life for meaning in result.meanings}
    rows = []
    for one in result.curve:
        cells = [_cell(name, *one.finals.get(name, (None, None))) for name in curves]
        if one.stopped and not one.num_runs:
            cells[0] = f"stopped at {one.stopped[-1]:,}"
        mark = ">" if result.best is not None and one.point == result.best.point else " "
        life = lives.get(one.point.label)
        told = "-" if life is None else step_count(life) + (" steps" if life < float("inf") else "")
        # What a job's value means in steps only the job itself knows.
        rows.append([f"{mark} {one.point.label}", str(one.num_runs), *cells, *([] if result.metric else [told])])
    heads = ("seeds", *titles, *([] if result.metric else ["half-life"]))
    return rich_table([("", {"no_wrap": True}), *((head, RIGHT) for head in heads)], rows)


def _cell(name: str, mean: float | None, spread: float | None) -> str:
    """A mean, and its spread where that tells something: not every one, for the line must fit a terminal."""
    if mean is None:
        return "-"
    told = spread is not None and name.endswith(("loss", "score"))
    return number(mean) + (f" ±{number(spread or 0.0).lstrip('0') or '0'}" if told else "")
