"""The curves of a chart as numbers for the page's script: what stands under the pointer, zoom, and files to save."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from torchdecay.reports.drawing.chart import Chart
from torchdecay.reports.drawing.marks import Band, Line
from torchdecay.reports.drawing.svg import box_of

_GID = re.compile(r"series-(\d+)-(?:line|band)")
_FEWEST, _MOST_OF_SEEDS = 3, 1500
"""Points of a curve, two of which are a pair of numbers that the picture says; numbers of single seeds in a chart."""


def curves_of(chart: Chart) -> str:
    """The curves of a chart as JSON, "" where it has none.

    Positions are those of the chart's own SVG, numbers have five digits, and what is no number is null.
    """
    lines: dict[int, dict[str, Any]] = {}
    names = {key.index: key.label for key in chart.keys}
    marks = [(mark, False) for mark in chart.plot.marks] + [(line, True) for _, line in chart.more]
    names |= {key.index: key.label for key, _ in chart.more}
    seeds = sum(len(one) for mark, _ in marks if isinstance(mark, Line) for one in mark.each)
    every = math.ceil(seeds / _MOST_OF_SEEDS)
    for mark, on_demand in marks:
        found = _GID.fullmatch(getattr(mark, "gid", ""))
        if not found or not isinstance(mark, Line | Band) or len(mark.x) < _FEWEST:
            continue
        index = int(found[1])
        line = lines.setdefault(index, {"series": index, "label": names.get(index, chart.title)})
        line["x"] = _rounded(mark.x)
        if isinstance(mark, Band):
            # Of a single seed it has no width.
            if list(mark.low) != list(mark.high):
                line |= {"low": _rounded(mark.low), "high": _rounded(mark.high)}
                line |= {"quiet": True} if mark.quiet else {}
        else:
            line |= {"y": _rounded(mark.y), "color": mark.style.color}
            line |= {"dashes": mark.style.dashes} if mark.style.dashes else {}
            line |= {"seeds": [_rounded(one[::every]) for one in mark.each], "every": every} if mark.each else {}
            line |= {"more": True} if on_demand else {}
    known = [line for line in lines.values() if "y" in line]
    if not known:
        return ""
    shared = known[0]["x"]
    known = [{name: value for name, value in line.items() if name != "x" or value != shared} for line in known]
    x, y = ([axis.low, axis.high, axis.log] for axis in (chart.plot.x, chart.plot.y))
    about = {"box": box_of(chart), "x": x, "y": y, "unit": chart.plot.x_label, "xs": shared, "lines": known}
    return json.dumps(about, separators=(",", ":"), ensure_ascii=False)


def _rounded(values: Sequence[float]) -> list[float | int | None]:
    return [_short(float(f"{value:.5g}")) if math.isfinite(value) else None for value in values]


def _short(value: float) -> float | int:
    return int(value) if value == int(value) and abs(value) < 1e9 else value
