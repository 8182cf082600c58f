"""One picture of a comparison for a README or a slide: training and test side by side, named at the lines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torchdecay.errors import TaskError
from torchdecay.reports.comparison.curves import curve_chart, label_styles
from torchdecay.reports.comparison.sentences import headline
from torchdecay.reports.comparison.series import series_of
from torchdecay.reports.drawing.chart import SMALL, Colors, plain_text
from torchdecay.reports.drawing.svg import Picture, add_axes
from torchdecay.text import counted, mean_and_spread, prose, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from torchdecay.lab.comparisons.comparison import Comparison

_WIDTH, _HEIGHT = 920.0, 380.0
_LEFT, _WIDE, _BETWEEN = 62.0, 310.0, 62.0
_BELOW, _TALL = 54.0, 226.0
_MOST_NAMES = 12


def picture_of(comparison: Comparison) -> Picture:
    """Training and test curves of a comparison.

    Raises:
        TaskError: no finished run.
    """
    if not comparison.runs:
        raise TaskError("the comparison has no finished run, so there is nothing to draw.", fix="Let one finish.")
    what = "score" if comparison.score_name else "loss"
    charts = [chart for part in ("train", "test") if (chart := curve_chart(comparison, f"{part}_{what}")) is not None]
    said, _ = headline(comparison)

    def draw(figure: Figure, colors: Colors) -> None:
        cover: Axes = figure.add_axes((0, 0, 1, 1), facecolor="none")
        cover.set_axis_off()
        cover.set_xlim(0, _WIDTH)
        cover.set_ylim(_HEIGHT, 0)
        plain_text(cover, 20, 36, shown(said, most=90), colors["ink"], fontsize=17, fontweight="bold")
        plain_text(cover, 20, 58, _subtitle(comparison), colors["muted"])
        for index, chart in enumerate(charts):
            left = _LEFT + index * (_WIDE + _BETWEEN)
            axes = add_axes(figure, (left, _BELOW, _WIDE, _TALL), _WIDTH, _HEIGHT)
            chart.draw(axes, colors)
            plain_text(cover, left - 42, 92, chart.title, colors["ink"], fontweight="bold")
        _name_lines(cover, comparison, f"test_{what}", colors, axes.get_ylim(), left + _WIDE + 14)

    alt = " ".join([said, *(chart.alt for chart in charts)])
    return Picture("comparison", prose(comparison.title), alt, _WIDTH, _HEIGHT, draw, dpi=160)


def _subtitle(comparison: Comparison) -> str:
    seeds = max(len(comparison.of(label)) for label in comparison.labels)
    spread = f": mean and range of {counted(seeds, 'seed')}" if seeds > 1 else ""
    return shown(comparison.title, most=90) + spread


def _name_lines(
    cover: Axes, comparison: Comparison, curve: str, colors: Colors, y_range: tuple[float, float], left: float
) -> None:
    """Write each decay's name and last value beside the end of its line, pushed apart where they would collide."""
    look = label_styles(comparison)
    low, high = y_range
    floor, ceiling = _HEIGHT - _BELOW, _HEIGHT - _BELOW - _TALL
    ends = [one for one in series_of(comparison, curve) if math.isfinite(one.mean[-1])]
    ends.sort(key=lambda one: -one.mean[-1])
    ends = ends[:_MOST_NAMES]
    room = min(36.0, _TALL / max(1, len(ends)))
    places: list[float] = []
    for one in ends:
        wanted = min(floor, max(ceiling, floor - _TALL * (one.mean[-1] - low) / (high - low)))
        places.append(max(wanted, places[-1] + room) if places else wanted)
    for i in reversed(range(len(places))):
        # Back up from below, so that the last name stays beside the chart.
        places[i] = min(places[i], floor - room * (len(places) - 1 - i))
    for one, y in zip(ends, places, strict=True):
        style = look[one.index]
        value = mean_and_spread(*comparison.mean_and_spread(comparison.labels[one.index], curve))
        cover.plot([left], [y], color=colors[style.color], marker=style.marker, markersize=7, linestyle="none")
        name = shown(one.label, most=20)
        if room > 30:
            plain_text(cover, left + 11, y + 2, name, colors["ink"], fontweight="bold", va="center")
            plain_text(cover, left + 11, y + 17, value, colors["muted"], fontsize=SMALL, va="center")
        else:
            plain_text(cover, left + 11, y, f"{value}  {name}", colors["ink"], fontsize=SMALL, va="center")
