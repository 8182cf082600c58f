"""Every point of a sweep as a row: what it measured, and what its coefficient means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchdecay.reports.sweep.points import Points, capital
from torchdecay.text import mean_and_spread, number, prose, share, shown, step_count

if TYPE_CHECKING:
    from torchdecay.lab.sweeps.choice import CurvePoint

_CURVES = ("train_loss", "validation_loss", "test_loss", "train_score", "validation_score", "test_score", "weight_norm")


@dataclass(frozen=True)
class Cell:
    """One cell: what it says, and a number to sort by ("" sorts last)."""

    text: str
    key: str = ""


@dataclass(frozen=True)
class Row:
    """One point.

    Attributes:
        name: what it is called.
        key: to sort by.
        mark: "chosen", "best mean", or "".
        cells: the rest.
    """

    name: str
    key: str
    mark: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table that can be sorted, with notes below it."""

    head: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def table_of(points: Points) -> Table:
    """All points, without decay first, then by learning rate and coefficient."""
    sweep = points.sweep
    curves = [name for name in _CURVES if any(getattr(run, name) is not None for run in sweep.runs)]
    chosen = sweep.best
    rows, whys = [], dict[str, None]()
    for place, one in enumerate(sweep.curve):
        is_chosen = chosen is not None and chosen.point == one.point
        leads = chosen is not None and chosen.leader == one.point.label
        mark = "chosen" if is_chosen else "best mean" if leads else ""
        cells = [Cell(_runs(points, one), str(one.num_runs))]
        for curve in curves:
            middle, spread = one.finals.get(curve, (math.nan, None))
            known = curve in one.finals
            cells.append(Cell(mean_and_spread(middle, spread) if known else "–", _key(middle)))
        cells += _meaning(points, one, whys)
        cells.append(_seconds(points, one))
        rows.append(Row(points.name(one.point), str(place), mark, tuple(cells)))
    head = (
        "Coefficient",
        "Runs",
        *(capital(points.curve_name(curve)) for curve in curves),
        "Half-life, steps",
        "Half-life, of the run",
        "Shrunk over the run",
        "Seconds a run",
    )
    notes = ["Mean ± standard deviation over seeds, after the last step. The choice looks at validation alone."]
    notes.append(
        "Half-life: the steps until decay alone has halved a weight, at the largest learning rate of the run. Shrunk: "
        "what decay alone takes away over the whole run, with its learning rates."
    )
    notes += [f"No half-life: {prose(why).rstrip('.')}." for why in whys]
    return Table(head, tuple(rows), tuple(notes))


def _runs(points: Points, one: CurvePoint) -> str:
    failed = sum(failure.label == one.point.label for failure in points.sweep.failures)
    parts = [str(one.num_runs)]
    parts += [f"{one.diverged} diverged"] if one.diverged else []
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{len(one.stopped)} stopped at {one.stopped[-1]:,}"] if one.stopped else []
    return ", ".join(parts)


def _meaning(points: Points, one: CurvePoint, whys: dict[str, None]) -> list[Cell]:
    found = points.meanings.get(one.point.label)
    if one.point.is_bare:
        return [Cell("never", "inf"), Cell("never", "inf"), Cell("0 %", "0")]
    if found is None or found.half_life is None or found.share_of_run is None or found.total_shrink is None:
        if found is not None and found.why:
            whys[shown(found.why)] = None
        return [Cell("–"), Cell("–"), Cell("–")]
    return [
        Cell(step_count(found.half_life), _key(found.half_life)),
        Cell(share(found.share_of_run), _key(found.share_of_run)),
        Cell(share(found.total_shrink), _key(found.total_shrink)),
    ]


def _seconds(points: Points, one: CurvePoint) -> Cell:
    runs = points.runs[one.point.label]
    if not runs:
        return Cell("–")
    mean = math.fsum(run.seconds for run in runs) / len(runs)
    return Cell(number(mean), _key(mean))


def _key(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))
