"""Charts of where each run ended: training against test, every seed a pair of points."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from torchdecay.lab.comparisons.statistics import mean, spread
from torchdecay.reports.comparison.curves import label_styles
from torchdecay.reports.drawing.axes import Axis, limits
from torchdecay.reports.drawing.chart import Chart, Key, Plot
from torchdecay.reports.drawing.marks import Line, Mark, Rule, Text, dot
from torchdecay.reports.drawing.palette import SMALL, Style
from torchdecay.text import capital, counted, mean_and_spread, number, shown

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.training.results import TrainingRun

_HEAD, _FOOT = 26.0, 12.0


def gap_chart(comparison: Comparison, what: str) -> Chart | None:
    """Final training and test value of every run, joined by a line as long as the gap.

    Args:
        comparison: the results.
        what: "loss" or "score".

    Returns:
        The chart, or None when no run has that measure.
    """
    runs = {
        label: found
        for label in comparison.labels
        if (found := [run for run in comparison.of(label) if getattr(run, f"test_{what}") is not None])
    }
    if not runs:
        return None
    name = comparison.score_name if what == "score" else "loss"
    look = label_styles(comparison)
    pairs = {label: [_pair(run, what) for run in found] for label, found in runs.items()}
    gaps = {label: _gap_words(comparison, label, what) for label in runs}
    values = [value for ends in pairs.values() for pair in ends for value in pair]
    chance = comparison.chance_loss if what == "loss" else None
    x_axis = Axis(*limits([*values, *([chance] if chance is not None else [])], floor=0.0), grid=True)
    each = {label: min(10.0, 60.0 / len(ends)) for label, ends in pairs.items()}
    height = sum(_HEAD + each[label] * len(ends) + _FOOT for label, ends in pairs.items())

    marks: list[Mark] = [] if chance is None else [Rule("x", chance, Style("muted", (2, 3), ""))]
    y = 0.0
    for label, ends in pairs.items():
        index = comparison.labels.index(label)
        style, gid = look[index], f"series-{index}"
        solid = replace(style, dashes=())
        gap = f"gap {gaps[label]}"
        marks.append(Text(0.0, y + 16, shown(label, most=22), bold=True, in_widths=True, halo=True))
        marks.append(Text(1.0, y + 16, gap, "muted", SMALL, ha="right", in_widths=True, halo=True))
        y += _HEAD
        for pair in ends:
            y += each[label] / 2
            if all(map(math.isfinite, pair)):
                marks.append(Line(pair, (y, y), solid, 2.5, f"{gid}-line", alpha=0.45, cap="butt", z=2))
            for value, hollow in zip(pair, (True, False), strict=True):
                if math.isfinite(value):
                    size = _size(each[label], hollow)
                    marks.append(dot(value, y, style, gid=f"{gid}-end", size=size, hollow=hollow))
            y += each[label] / 2
        y += _FOOT

    return Chart(
        name=f"gap-{what}",
        title=f"{capital(name)} where training ended",
        alt=_alt(comparison, name, pairs, gaps),
        caption="Hollow: training rows, with the labels they were trained on. Filled: test rows. "
        "Each pair is one seed; the line between them is the gap."
        + (f" Dotted: chance, {number(chance)}." if chance is not None else ""),
        plot=Plot(x_axis, Axis(height, 0.0, ticks=()), f"{name} at the end", tuple(marks)),
        height=height + 40,
        left=14.0,
        keys=tuple(
            Key(shown(label), look[index], index) for index, label in enumerate(comparison.labels) if label in runs
        ),
        head=("decay", "seed", f"training {name}", f"test {name}"),
        rows=tuple(
            (shown(label), str(run.seed), *map(number, _pair(run, what)))
            for label, found in runs.items()
            for run in found
        ),
    )


def _size(room: float, hollow: bool) -> float:
    # The rim of a filled marker has the color of the page, so it looks smaller than a hollow one.
    return min(6.5 if hollow else 8.0, room)


def _pair(run: TrainingRun, what: str) -> tuple[float, float]:
    return run.final(f"train_{what}"), run.final(f"test_{what}")


def gap_of(comparison: Comparison, label: str, what: str) -> tuple[float, float | None]:
    """Mean and standard deviation over seeds of the final test value less the final training value."""
    gaps = [test - train for train, test in (_pair(run, what) for run in comparison.of(label))]
    return mean(gaps), spread(gaps)


def _gap_words(comparison: Comparison, label: str, what: str) -> str:
    middle, around = gap_of(comparison, label, what)
    return ("+" if middle > 0 else "") + mean_and_spread(middle, around)


def _alt(comparison: Comparison, name: str, pairs: dict[str, list[tuple[float, float]]], gaps: dict[str, str]) -> str:
    parts = [f"Final {name} of every run, training against test."]
    for label, ends in pairs.items():
        train = [value for value, _ in ends]
        test = [value for _, value in ends]
        parts.append(
            f"{shown(label)}, {counted(len(ends), 'seed')}: training {_span(train)}, test {_span(test)}, "
            f"test − training {gaps[label]}."
        )
    return " ".join(parts)


def _span(values: list[float]) -> str:
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"
