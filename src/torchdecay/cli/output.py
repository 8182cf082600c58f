"""What the commands share: printing a comparison, and asking early whether results can be written."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchdecay.errors import TaskError

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.sweeps.result import Sweep

POINTS = 10


def json_option(command: Any) -> Any:
    """The `--json` of every command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def require_writable(folder: Path) -> None:
    """Find out before training, not after, whether results can be written.

    Raises:
        TaskError: the folder can't be made or written; nothing is left behind.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise TaskError(
            f"results can't be written to {folder}: {error.strerror or error}.",
            "Nothing was trained.",
            "Name another folder with --out.",
        ) from error
    finally:
        for one in missing:
            if one.is_dir() and not any(one.iterdir()):
                one.rmdir()


def print_comparison(comparison: Comparison) -> None:
    """Curves at ten points, final numbers, failures and the verdict."""
    from rich.console import Console

    from torchdecay.reports import verdict
    from torchdecay.reports.comparison.planned_and_measured import acting_remarks

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    console.print(f"\n{comparison.title}", style="bold", markup=False)
    for note in comparison.notes:
        console.print(note, style="dim", markup=False)
    if comparison.runs:
        console.print()
        console.print(_curves(comparison))
        console.print()
        console.print(_finals(comparison))
        console.print()
        if (acting := _acting(comparison)) is not None:
            console.print(acting)
            console.print()
    for failure in comparison.failures:
        console.print(f"FAILED {failure.label}, seed {failure.seed}: {failure.message}", style="red", markup=False)
    for line in (*verdict(comparison).splitlines(), *acting_remarks(comparison)):
        console.print(f"* {line}", markup=False)


def _curves(comparison: Comparison) -> Any:
    """Mean training and test loss at evenly spaced steps."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(comparison.step_name, justify="right")
    labels = [label for label in comparison.labels if comparison.of(label)]
    for label in labels:
        table.add_column(f"{label}\ntrain", justify="right")
        table.add_column("\ntest", justify="right")
    steps = comparison.of(labels[0])[0].steps
    stride = max(1, (len(steps) - 1) // POINTS)
    for i in sorted({*range(0, len(steps), stride), len(steps) - 1}):
        cells = [
            _number(_mean([getattr(run, curve)[i] for run in comparison.of(label)]))
            for label in labels
            for curve in ("train_loss", "test_loss")
        ]
        table.add_row(f"{steps[i]:,}", *cells)
    return table


def _finals(comparison: Comparison) -> Any:
    """Final numbers, as mean ± spread over seeds."""
    from rich.table import Table

    score = comparison.score_name
    curves = [("train_loss", "train loss"), ("test_loss", "test loss"), ("gap", "gap")]
    curves += [("train_score", f"train {score}"), ("test_score", f"test {score}")] if score else []
    curves += [("weight_norm", "weight norm"), ("gradient_norm", "gradient norm")]
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("at the end")
    table.add_column("seeds", justify="right")
    for _, title in curves:
        table.add_column(title, justify="right")
    for label in comparison.labels:
        runs = comparison.of(label)
        if not runs:
            continue
        cells = []
        for curve, _ in curves:
            middle, spread = comparison.mean_and_spread(label, curve)
            # Not every spread: the line must fit a terminal.
            told = spread is not None and curve.endswith(("loss", "score"))
            cells.append(_number(middle) + (f" ±{_number(spread or 0.0).lstrip('0')}" if told else ""))
        table.add_row(label, str(len(runs)), *cells)
    return table


def _acting(comparison: Comparison) -> Any:
    """What decay was to do, and what it did; None where nothing decays."""
    from rich.table import Table
    from rich.text import Text

    from torchdecay.reports.comparison.planned_and_measured import acting_rows

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("decay alone")
    for title in ("per step", "half-life", "time scale", "takes: forecast", "measured"):
        table.add_column(title, justify="right")
    for label, _, *cells in acting_rows(comparison):
        table.add_row(*(Text(cell) for cell in (label, *cells[:5])))
    return table if table.row_count else None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _number(value: float) -> str:
    return f"{value:.3f}" if not math.isfinite(value) or abs(value) < 1e4 else f"{value:.3g}"


def where(page: Path | None) -> str:
    """The last line: where the page is."""
    return f"\nPage: {page}" if page else "\nNo run was finished, so no page was written."


def with_page(result: Comparison | Sweep, page: Path | None) -> str:
    """The results as JSON, with where the page is and what they show."""
    from torchdecay.reports import verdict

    found = {"page": None if page is None else str(page)} | json.loads(result.to_json()) | {"verdict": verdict(result)}
    return json.dumps(found, indent=1, ensure_ascii=False)
