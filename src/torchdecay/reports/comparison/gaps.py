"""Charts of where each run ended: training against test, every seed a pair of points."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

_HEAD, _FOOT = 26.0, 12.0


def gap_chart(comparison: Comparison, what: str) -> Chart | None:
    """Final training and test "loss" or "score" of every run, joined by a line as long as the gap; None without one."""
    runs = {
        label: found
        for label in comparison.labels
        if (found := [run for run in comparison.of(label) if getattr(run, f"test_{what}") is not None])
    }
    if not runs:
        return None
    name = comparison.score_name if what == "score" else "loss"
    look = label_styles(comparison)
    train, test = f"train_{what}", f"test_{what}"
    pairs = {label: [(run.final(train), run.final(test)) for run in found] for label, found in runs.items()}
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
        marks.append(Text(0.0, y + 16, shown(label, most=22), bold=True, in_widths=True, halo=True))
        marks.append(Text(1.0, y + 16, _gap(ends), "muted", SMALL, ha="right", in_widths=True, halo=True))
        y += _HEAD
        for pair in ends:
            y += each[label] / 2
            if all(map(math.isfinite, pair)):
                marks.append(Line(pair, (y, y), solid, 2.5, f"{gid}-line", alpha=0.45, cap="butt", z=2))
            for value, hollow in zip(pair, (True, False), strict=True):
                if math.isfinite(value):
                    # The rim of a filled marker has the color of the page, so it looks smaller than a hollow one.
                    size = min(6.5 if hollow else 8.0, each[label])
                    marks.append(dot(value, y, style, gid=f"{gid}-end", size=size, hollow=hollow))
            y += each[label] / 2
        y += _FOOT

    return Chart(
        name=f"gap-{what}",
        title=f"{capital(name)} where training ended",
        alt=f"Final {name} of every run, training against test. "
        + " ".join(f"{shown(label)}, {_said(ends)}" for label, ends in pairs.items()),
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
            (shown(label), str(run.seed), *map(number, pair))
            for label, found in runs.items()
            for run, pair in zip(found, pairs[label], strict=True)
        ),
    )


def _gap(pairs: Sequence[tuple[float, float]]) -> str:
    """The final test value less the final training value: mean and standard deviation over seeds, with one sign."""
    gaps = [test - train for train, test in pairs]
    middle = mean(gaps)
    return f"gap {'+' if middle > 0 else ''}{mean_and_spread(middle, spread(gaps))}"


def _said(pairs: Sequence[tuple[float, float]]) -> str:
    train, test = (
        " to ".join(dict.fromkeys(number(pick(ends)) for pick in (min, max))) for ends in zip(*pairs, strict=True)
    )
    return f"{counted(len(pairs), 'seed')}: training {train}, test {test}, {_gap(pairs)}."
