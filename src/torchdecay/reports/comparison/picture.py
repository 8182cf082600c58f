"""One picture of a comparison for a README or a slide: training and test side by side, named at the lines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torchdecay.errors import TaskError
from torchdecay.reports.comparison.curves import curve_chart, label_styles
from torchdecay.reports.comparison.sentences import headline
from torchdecay.reports.comparison.series import series_of
from torchdecay.reports.drawing.marks import Dots, Mark, Text
from torchdecay.reports.drawing.palette import SMALL
from torchdecay.reports.drawing.svg import Panel, Picture
from torchdecay.text import counted, mean_and_spread, prose, shown

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison

_WIDTH, _HEIGHT = 920.0, 380.0
_LEFT, _WIDE, _BETWEEN = 62.0, 310.0, 62.0
_BELOW, _TALL = 54.0, 226.0
_MOST_NAMES = 12


def picture_of(comparison: Comparison) -> Picture:
    """Training and test curves of a comparison."""
    if not comparison.runs:
        raise TaskError("the comparison has no finished run, so there is nothing to draw.", fix="Let one finish.")
    what = "score" if comparison.score_name else "loss"
    charts = [chart for part in ("train", "test") if (chart := curve_chart(comparison, f"{part}_{what}")) is not None]
    said, _ = headline(comparison)
    panels = tuple(
        Panel(_LEFT + index * (_WIDE + _BETWEEN), _BELOW, _WIDE, _TALL, chart.plot)
        for index, chart in enumerate(charts)
    )
    cover: list[Mark] = [
        Text(20, 36, shown(said, most=90), size=17, bold=True),
        Text(20, 58, _subtitle(comparison), "muted"),
        *(Text(one.left - 42, 92, chart.title, bold=True) for one, chart in zip(panels, charts, strict=True)),
        *_names(comparison, f"test_{what}", panels[-1]),
    ]
    alt = " ".join([said, *(chart.alt for chart in charts)])
    return Picture("comparison", prose(comparison.title), alt, _WIDTH, _HEIGHT, panels, tuple(cover), dpi=160)


def _subtitle(comparison: Comparison) -> str:
    seeds = max(len(comparison.of(label)) for label in comparison.labels)
    spread = f": mean and range of {counted(seeds, 'seed')}" if seeds > 1 else ""
    return shown(comparison.title, most=90) + spread


def _names(comparison: Comparison, curve: str, beside: Panel) -> Iterator[Mark]:
    """Each decay's name and last value beside the end of its line, pushed apart where they would collide."""
    look = label_styles(comparison)
    left, axis = beside.left + beside.width + 14, beside.plot.y
    floor, ceiling = _HEIGHT - _BELOW, _HEIGHT - _BELOW - _TALL
    ends = [one for one in series_of(comparison, curve) if math.isfinite(one.mean[-1])]
    ends.sort(key=lambda one: -one.mean[-1])
    ends = ends[:_MOST_NAMES]
    room = min(36.0, _TALL / max(1, len(ends)))
    places: list[float] = []
    for one in ends:
        wanted = min(floor, max(ceiling, floor - _TALL * (one.mean[-1] - axis.low) / (axis.high - axis.low)))
        places.append(max(wanted, places[-1] + room) if places else wanted)
    for i in reversed(range(len(places))):
        # Back up from below, so that the last name stays beside the chart.
        places[i] = min(places[i], floor - room * (len(places) - 1 - i))
    for one, y in zip(ends, places, strict=True):
        style = look[one.index]
        value = mean_and_spread(*comparison.mean_and_spread(comparison.labels[one.index], curve))
        yield Dots((left,), (y,), style.marker, 7, style.color, style.color, 1.0)
        name = shown(one.label, most=20)
        if room > 30:
            yield Text(left + 11, y + 2, name, bold=True, va="center")
            yield Text(left + 11, y + 17, value, "muted", SMALL, va="center")
        else:
            yield Text(left + 11, y, f"{value}  {name}", size=SMALL, va="center")
