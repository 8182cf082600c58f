"""Charts of the loss along a line through a solution, with the penalty, their sum, and where each is least."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torchdecay.reports.drawing.axes import Axis, evenly, limits
from torchdecay.reports.drawing.chart import Chart, Key, Plot
from torchdecay.reports.drawing.marks import Line, Mark, Rule, Text, dot
from torchdecay.reports.drawing.palette import SMALL, Style
from torchdecay.text import capital, number, prose, shown

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.training.results import LineScan, TrainingRun


@dataclass(frozen=True)
class _Curve:
    """One curve along the line, named in the legend, `head` in the table.

    `least` is the α where it is least and `height` its value there; None for the penalty, which is so at 0.
    """

    name: str
    head: str
    values: tuple[float, ...]
    style: Style
    width: float
    least: float | None = None
    height: float = math.nan


def scan_charts(comparison: Comparison) -> list[Chart]:
    """One chart for each label whose first finished run was scanned, all over the same range."""
    made = []
    for index, label in enumerate(comparison.labels):
        run = next((run for run in comparison.of(label) if run.line is not None), None)
        if run is not None and run.line is not None:
            made.append(_scan_chart(index, run, run.line))
    return made


def _scan_chart(index: int, run: TrainingRun, scan: LineScan) -> Chart:
    label = shown(run.label, most=40)
    curves = list(_curves(scan))
    least = [curve for curve in curves if curve.least is not None]
    top = _top(scan, curves)
    marks: list[Mark] = [
        Rule("x", 1.0, Style("axis", (), ""), z=1),
        Text(1.0, 0.985, " solution", "muted", SMALL, va="top", in_heights=True, halo=True),
        *(Line(scan.alphas, one.values, one.style, one.width, "scan-line") for one in (curves[-1], *curves[:-1])),
    ]
    for one in least:
        if one.least is not None and math.isfinite(one.height) and one.height <= top:
            down = replace(one.style, dashes=(1, 2))
            marks.append(Line((one.least, one.least), (0, one.height), down, 1.0, z=2))
            marks.append(dot(one.least, one.height, one.style, gid="scan-minimum", size=8))

    edges = dict.fromkeys((scan.alphas[0], scan.alphas[-1]), ", the edge of the scan")
    said = "; ".join(
        f"{one.name} is least at α = {one.least:.3g} ({number(one.height)}){edges.get(one.least or 0.0, '')}"
        for one in least
    )
    said = f"{capital(said)}."
    caption = [said, prose(scan.note)]
    if any(value > top for one in curves for value in one.values if one.least is not None):
        caption.append("Values above the chart are listed under Numbers.")
    return Chart(
        name=f"line-{index}",
        title=f"Along the line: {label}",
        alt=f"{label}, seed {run.seed}: loss along the line through the solution. {said} The solution is at α = 1.",
        caption=" ".join(filter(None, caption)),
        plot=Plot(
            Axis(scan.alphas[0], scan.alphas[-1]), Axis(0.0, top, grid=True), "α: weights times this", tuple(marks)
        ),
        keys=tuple(Key(one.name, one.style, place) for place, one in enumerate(curves)),
        head=("α", *(one.head for one in curves)),
        rows=tuple(
            (f"{scan.alphas[i]:.3g}", *(number(one.values[i]) for one in curves))
            for i in evenly(len(scan.alphas), 13)
        ),
    )  # fmt: skip


def _curves(scan: LineScan) -> Iterator[_Curve]:
    def curve(name: str, head: str, values: tuple[float, ...], least: float, style: Style, width: float) -> _Curve:
        return _Curve(name, head, values, style, width, least, values[scan.alphas.index(least)])

    yield curve("training loss", "training loss", scan.train_loss, scan.loss_minimum, Style("loss", (), "o"), 2.2)
    if scan.penalty is not None and scan.total is not None and scan.total_minimum is not None:
        yield _Curve("penalty", "penalty", scan.penalty, Style("penalty", (2, 2), ""), 1.8)
        look = Style("total", (7, 2.5), "D")
        yield curve("training loss + penalty", "sum", scan.total, scan.total_minimum, look, 2.2)
    look = Style("held", (8, 2, 2, 2), "s")
    yield curve("test loss", "test loss", scan.test_loss, scan.test_minimum, look, 1.6)


def _top(scan: LineScan, curves: list[_Curve]) -> float:
    """High enough for the losses near the solution and for every minimum; what shoots beyond leaves the chart."""
    near = [
        value
        for curve in (scan.train_loss, scan.test_loss)
        for alpha, value in zip(scan.alphas, curve, strict=True)
        if 0 <= alpha <= 1.3
    ]
    low = [one.height for one in curves if one.least is not None]
    if scan.total is not None:
        low.append(min(zip(scan.alphas, scan.total, strict=True), key=lambda point: abs(point[0] - 1))[1])
    return max(limits([*near, *low], floor=0.0, margin=0.1)[1], 1e-12)
