"""Every point of a sweep as a row: what it measured, and what its coefficient means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torchdecay.reports.article import Table
from torchdecay.reports.sweep.points import Points
from torchdecay.text import capital, means_and_spreads, number, prose, share, shown, step_count

if TYPE_CHECKING:
    from torchdecay.lab.sweeps.choice import CurvePoint

_CURVES = ("train_loss", "validation_loss", "test_loss", "train_score", "validation_score", "test_score", "weight_norm")
_MEANING = ("Half-life, steps", "Half-life, of the run", "Shrunk over the run")

Cell = tuple[str, float]
"""What it says, and the number to sort by; NaN sorts last."""
_UNKNOWN: Cell = ("–", math.nan)


def table_of(points: Points) -> tuple[Table, tuple[str, ...]]:
    """All points, without decay first, then by learning rate and coefficient; and notes below them."""
    sweep, chosen = points.sweep, points.sweep.best
    curves = [name for name in _CURVES if any(getattr(run, name) is not None for run in sweep.runs)]
    known = {name: [one for one in sweep.curve if name in one.finals] for name in curves}
    # Where a line is too long, it breaks before the sign.
    told = {
        (one.point.label, name): (text.replace("± ", "±\N{NO-BREAK SPACE}"), one.finals[name][0])
        for name, some in known.items()
        for one, text in zip(some, means_and_spreads([one.finals[name] for one in some]), strict=True)
    }
    has_meaning = not sweep.metric or any(one.half_life for one in sweep.meanings)
    rows, tags = [], []
    drawn = points.some(sweep.curve, lambda one: one.point)
    for place, one in enumerate(drawn):
        is_chosen = chosen is not None and chosen.point == one.point
        leads = chosen is not None and chosen.leader == one.point.label
        tags.append("chosen" if is_chosen else "best mean" if leads else "")
        rows.append(
            [
                (points.name(one.point), place),
                (_runs(points, one), one.num_runs),
                *(told.get((one.point.label, curve), _UNKNOWN) for curve in curves),
                *(_meaning(points, one) if has_meaning else ()),
                _seconds(points, one),
            ]
        )
    heads = (capital(points.curve_name(curve)) for curve in curves)
    table = Table(
        head=("Coefficient", "Runs", *heads, *(_MEANING if has_meaning else ()), "Seconds a run"),
        rows=tuple(tuple(text for text, _ in row) for row in rows),
        keys=tuple(tuple("" if math.isnan(key) else repr(key) for _, key in row) for row in rows),
        tags=tuple(tags),
    )
    whys = dict.fromkeys(shown(one.why) for one in sweep.meanings if one.half_life is None and one.why)
    left = f"{len(drawn)} of {len(sweep.curve):,} points stand here; every one is in the file of numbers."
    meaning = (
        "Half-life: the steps until decay alone has halved a weight, at the largest learning rate of the run. Shrunk: "
        "what decay alone takes away over the whole run, with its learning rates.",
        *(f"No half-life: {prose(why).rstrip('.')}." for why in whys),
    )
    return table, (*([left] if len(drawn) < len(sweep.curve) else []), *(meaning if has_meaning else ()))


def _runs(points: Points, one: CurvePoint) -> str:
    failed = sum(failure.label == one.point.label for failure in points.sweep.failures)
    parts = [str(one.num_runs)]
    parts += [f"{one.diverged} diverged"] if one.diverged else []
    parts += [f"{failed} failed"] if failed else []
    parts += ["left the race"] if one.point.label in points.sweep.left_race else []
    parts += [f"{len(one.stopped)} stopped at {one.stopped[-1]:,}"] if one.stopped else []
    return ", ".join(parts)


def _meaning(points: Points, one: CurvePoint) -> tuple[Cell, Cell, Cell]:
    found = points.meanings.get(one.point.label)
    if one.point.is_bare:
        return ("never", math.inf), ("never", math.inf), ("0 %", 0)
    if found is None or found.half_life is None or found.share_of_run is None or found.total_shrink is None:
        return _UNKNOWN, _UNKNOWN, _UNKNOWN
    return (
        (step_count(found.half_life), found.half_life),
        (share(found.share_of_run), found.share_of_run),
        (share(found.total_shrink), found.total_shrink),
    )


def _seconds(points: Points, one: CurvePoint) -> Cell:
    runs = points.runs[one.point.label]
    mean = math.fsum(run.seconds for run in runs) / len(runs) if runs else math.nan
    return (number(mean), mean) if runs else _UNKNOWN
