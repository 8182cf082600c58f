"""Charts of the loss along a line through a solution, with the penalty, their sum, and where each is least."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torchdecay.reports.drawing.chart import Chart, Key
from torchdecay.reports.drawing.palette import Style
from torchdecay.reports.drawing.plot import SMALL, Axis, Line, Mark, Plot, Rule, Text, dot, limits, line
from torchdecay.text import number, prose, shown

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.training.results import LineScan, TrainingRun

LOSS = Style("loss", (), "o")
PENALTY = Style("penalty", (2, 2), "")
TOTAL = Style("total", (7, 2.5), "D")
TEST = Style("held", (8, 2, 2, 2), "s")


def scan_charts(comparison: Comparison) -> list[Chart]:
    """One chart for each label whose first finished run was scanned, all over the same range."""
    made = []
    for index, label in enumerate(comparison.labels):
        run = next((run for run in comparison.of(label) if run.line is not None), None)
        if run is not None and run.line is not None:
            made.append(_scan_chart(comparison, index, run, run.line))
    return made


def _scan_chart(comparison: Comparison, index: int, run: TrainingRun, scan: LineScan) -> Chart:
    label = shown(run.label, most=40)
    top = _top(scan)
    total = scan.total

    marks: list[Mark] = [
        Rule("x", 1.0, Style("axis", (), ""), z=1),
        Text(1.0, 0.985, " solution", "muted", SMALL, va="top", in_heights=True, halo=True),
        line(scan.alphas, scan.test_loss, TEST, width=1.6, gid="scan-test"),
    ]
    if scan.penalty is not None:
        marks.append(line(scan.alphas, scan.penalty, PENALTY, width=1.8, gid="scan-penalty"))
    marks.append(line(scan.alphas, scan.train_loss, LOSS, width=2.2, gid="scan-loss"))
    if total is not None:
        marks.append(line(scan.alphas, total, TOTAL, width=2.2, gid="scan-total"))
    for one in _labeled(scan, top):
        if math.isfinite(one.value) and one.value <= top:
            marks += _minimum_marks(one)

    keys = [Key("training loss", LOSS, 0)]
    if scan.penalty is not None:
        keys += [Key("penalty", PENALTY, 1), Key("training loss + penalty", TOTAL, 2)]
    keys.append(Key("test loss", TEST, 3))
    return Chart(
        name=f"line-{index}",
        title=f"Along the line: {label}",
        alt=_alt(label, run, scan),
        caption=_caption(scan, top),
        plot=Plot(
            Axis(scan.alphas[0], scan.alphas[-1]), Axis(0.0, top, grid=True), "α: weights times this", tuple(marks)
        ),
        keys=tuple(keys),
        head=("α", "training loss", *(("penalty", "sum") if total is not None else ()), "test loss"),
        rows=_numbers(scan),
    )


@dataclass(frozen=True)
class Minimum:
    """Where one curve is least, and on which side of the point its α is written."""

    style: Style
    alpha: float
    value: float
    below: bool
    left: bool = False
    text: str = ""


def _minimum_marks(one: Minimum) -> list[Mark]:
    return [
        Line((one.alpha, one.alpha), (0, one.value), replace(one.style, dashes=(1, 2)), 1.0, z=2),
        dot(one.alpha, one.value, one.style, gid="scan-minimum", size=8),
        Text(one.alpha, one.value, one.text, size=SMALL, ha="right" if one.left else "left",
             va="top" if one.below else "bottom", offset=(-7 if one.left else 7, -5 if one.below else 6), halo=True),
    ]  # fmt: skip


def _minima(scan: LineScan) -> list[Minimum]:
    found = [
        Minimum(TEST, scan.test_minimum, _value(scan, scan.test_loss, scan.test_minimum), below=False),
        Minimum(LOSS, scan.loss_minimum, _value(scan, scan.train_loss, scan.loss_minimum), below=True),
    ]
    if scan.total is not None and scan.total_minimum is not None:
        value = _value(scan, scan.total, scan.total_minimum)
        found.append(Minimum(TOTAL, scan.total_minimum, value, below=False))
    return found


def _labeled(scan: LineScan, top: float) -> list[Minimum]:
    """The minima with their α written where no other is: a pair side by side points apart, one point has one label."""
    reach, tall = 0.22 * (scan.alphas[-1] - scan.alphas[0]), 0.16 * top
    made: list[Minimum] = []
    for one in sorted(_minima(scan), key=lambda one: one.alpha):
        text = f"{one.alpha:.3g}"
        left = one.alpha > scan.alphas[-1] - 0.6 * reach
        before = made[-1] if made else None
        if before is not None and one.alpha - before.alpha < reach and abs(one.value - before.value) < tall:
            if one.alpha == before.alpha and abs(one.value - before.value) < 0.02 * top:
                text = ""
            else:
                made[-1] = replace(before, left=before.alpha > scan.alphas[0] + 0.6 * reach)
        made.append(replace(one, text=text, left=left, below=one.below and one.value > 0.15 * top))
    return made


def _value(scan: LineScan, curve: tuple[float, ...], alpha: float) -> float:
    return curve[scan.alphas.index(alpha)]


def _top(scan: LineScan) -> float:
    """High enough for the losses near the solution and for every minimum; what shoots beyond leaves the chart."""
    near = [
        value
        for curve in (scan.train_loss, scan.test_loss)
        for alpha, value in zip(scan.alphas, curve, strict=True)
        if 0 <= alpha <= 1.3
    ]
    low = [one.value for one in _minima(scan)]
    if scan.total is not None:
        low.append(min(zip(scan.alphas, scan.total, strict=True), key=lambda point: abs(point[0] - 1))[1])
    return max(limits([*near, *low], floor=0.0, margin=0.1)[1], 1e-12)


def _alt(label: str, run: TrainingRun, scan: LineScan) -> str:
    parts = [
        f"{label}, seed {run.seed}: loss along the line through the solution. "
        f"Training loss is least at α = {scan.loss_minimum:.3g} "
        f"({number(_value(scan, scan.train_loss, scan.loss_minimum))}), "
        f"test loss at α = {scan.test_minimum:.3g} "
        f"({number(_value(scan, scan.test_loss, scan.test_minimum))})"
    ]
    if scan.total is not None and scan.total_minimum is not None:
        parts.append(
            f", training loss plus penalty at α = {scan.total_minimum:.3g} "
            f"({number(_value(scan, scan.total, scan.total_minimum))})"
        )
    return "".join(parts) + ". The solution is at α = 1."


def _caption(scan: LineScan, top: float) -> str:
    least = scan.loss_minimum
    edge = ", the edge of the scan" if least in (scan.alphas[0], scan.alphas[-1]) else ""
    sentences = [f"Training loss alone is least at α = {least:.3g}{edge}"]
    if scan.total_minimum is not None:
        sentences[0] += f", with the penalty at α = {scan.total_minimum:.3g}"
    sentences[0] += f"; test loss at α = {scan.test_minimum:.3g}."
    if scan.note:
        sentences.append(prose(scan.note))
    curves = [scan.train_loss, scan.test_loss, *([scan.total] if scan.total is not None else [])]
    if any(value > top for curve in curves for value in curve):
        sentences.append("What shoots up beyond the chart is in the numbers.")
    return " ".join(sentences)


def _numbers(scan: LineScan, *, most: int = 13) -> tuple[tuple[str, ...], ...]:
    columns = [scan.train_loss, *([scan.penalty, scan.total] if scan.penalty and scan.total else []), scan.test_loss]
    count = len(scan.alphas)
    picked = sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})
    return tuple((f"{scan.alphas[i]:.3g}", *(number(column[i]) for column in columns)) for i in picked)
