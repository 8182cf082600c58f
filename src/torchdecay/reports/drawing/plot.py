"""What a chart shows, as values that can be compared: two axes and marks, in names of colors; `paint` draws them.

No pyplot, so a user's own figures and settings stay alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torchdecay.reports.drawing.palette import Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis

TEXT, SMALL = 12.5, 11.5

Colors = Mapping[str, str]
Ticks = tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Axis:
    """From where to where, and what stands along it.

    Attributes:
        low, high: the range.
        log: whether on a logarithmic scale.
        ticks: places and their names; None: at most `most_ticks` round numbers.
        most_ticks: how many of these.
        grid: whether lines go from them across the plot.
        size: of the names.
    """

    low: float
    high: float
    log: bool = False
    ticks: Ticks | None = None
    most_ticks: int = 5
    grid: bool = False
    size: float = TEXT

    def paint(self, own: XAxis | YAxis) -> None:
        """Set an axis of matplotlib so."""
        from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

        if self.log:
            own.axes.set(**{f"{own.axis_name}scale": "log"})
            own.set_minor_formatter(NullFormatter())
            own.set_tick_params(which="minor", length=0)
        own.axes.set(**{f"{own.axis_name}lim": (self.low, self.high)})
        if self.ticks is not None:
            own.set_ticks([place for place, _ in self.ticks], [text for _, text in self.ticks])
            for label in own.get_ticklabels():
                label.set_parse_math(False)
            return
        if not self.log:
            own.set_major_locator(MaxNLocator(self.most_ticks, steps=[1, 2, 2.5, 5, 10]))
        own.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))


@dataclass(frozen=True)
class Line:
    """A line in its style; NaN breaks it."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Style
    width: float
    gid: str = ""
    alpha: float | None = None
    cap: Literal["round", "butt", "projecting"] = "round"
    z: float = 3

    def _paint(self, axes: Axes, colors: Colors) -> None:
        axes.plot(self.x, self.y, color=colors[self.style.color], linestyle=self.style.linestyle,
                  linewidth=self.width, alpha=self.alpha, solid_capstyle=self.cap, dash_capstyle="butt",
                  solid_joinstyle="round", gid=self.gid or None, zorder=self.z)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A straight line across the whole plot, where x or y has a value."""

    axis: Literal["x", "y"]
    at: float
    style: Style
    width: float = 1.0
    z: float = 2

    def _paint(self, axes: Axes, colors: Colors) -> None:
        draw = axes.axvline if self.axis == "x" else axes.axhline
        draw(self.at, color=colors[self.style.color], linewidth=self.width, linestyle=self.style.linestyle,
             zorder=self.z)  # fmt: skip


@dataclass(frozen=True)
class Band:
    """The shade between two lines."""

    x: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    color: str
    gid: str
    alpha: float = 0.16

    def _paint(self, axes: Axes, colors: Colors) -> None:
        axes.fill_between(self.x, self.low, self.high, color=colors[self.color], alpha=self.alpha, linewidth=0,
                          gid=self.gid)  # fmt: skip


@dataclass(frozen=True)
class Span:
    """The shade between two heights, across the whole plot."""

    low: float
    high: float
    color: str
    alpha: float = 0.18

    def _paint(self, axes: Axes, colors: Colors) -> None:
        axes.axhspan(self.low, self.high, color=colors[self.color], alpha=self.alpha, linewidth=0, zorder=1)


@dataclass(frozen=True)
class Dots:
    """Markers.

    Attributes:
        x, y: where; `at_bottom` counts y in heights of the plot.
        marker, size: as matplotlib names and measures them.
        fill, edge: colors; "" for none.
        edge_width, alpha, gid, z: as matplotlib has them.
        clip: whether they end where the plot does.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    marker: str
    size: float
    fill: str = ""
    edge: str = ""
    edge_width: float = 0.0
    alpha: float | None = None
    gid: str = ""
    z: float = 5
    clip: bool = True
    at_bottom: bool = False

    def _paint(self, axes: Axes, colors: Colors) -> None:
        where = axes.get_xaxis_transform() if self.at_bottom else axes.transData
        fill, edge = (colors[name] if name else "none" for name in (self.fill, self.edge))
        axes.plot(self.x, self.y, linestyle="none", marker=self.marker, markersize=self.size, clip_on=self.clip,
                  markerfacecolor=fill, markeredgecolor=edge, markeredgewidth=self.edge_width, alpha=self.alpha,
                  gid=self.gid or None, zorder=self.z, transform=where)  # fmt: skip


@dataclass(frozen=True)
class Text:
    """Words, never read as mathematics: a label may hold dollar signs.

    Attributes:
        x, y: where; `in_widths` and `in_heights` count them in those of the plot.
        text, color, size, bold: what and how.
        ha, va: which part of the words stands there.
        offset: from there, in points.
        halo: whether the color of the page goes around them.
        z: what lies above what.
    """

    x: float
    y: float
    text: str
    color: str = "ink"
    size: float = TEXT
    bold: bool = False
    ha: str = "left"
    va: str = "baseline"
    offset: tuple[float, float] = (0, 0)
    in_widths: bool = False
    in_heights: bool = False
    halo: bool = False
    z: float = 3

    def _paint(self, axes: Axes, colors: Colors) -> None:
        across = axes.transAxes if self.in_heights else axes.get_yaxis_transform()
        where = across if self.in_widths else axes.get_xaxis_transform() if self.in_heights else axes.transData
        axes.annotate(self.text, (self.x, self.y), xycoords=where, xytext=self.offset, textcoords="offset points",
                      color=colors[self.color], fontsize=self.size, fontweight="bold" if self.bold else "normal",
                      ha=self.ha, va=self.va, parse_math=False, gid="halo" if self.halo else None, zorder=self.z,
                      annotation_clip=False)  # fmt: skip


@dataclass(frozen=True)
class Box:
    """A rectangle from (left, low) to (right, high), with a color or an edge."""

    left: float
    low: float
    right: float
    high: float
    fill: str = ""
    alpha: float | None = None
    edge: str = ""
    width: float = 0.0
    z: float = 1

    def _paint(self, axes: Axes, colors: Colors) -> None:
        from matplotlib.patches import Rectangle

        fill, edge = (colors[name] if name else "none" for name in (self.fill, self.edge))
        axes.add_patch(
            Rectangle((self.left, self.low), self.right - self.left, self.high - self.low, facecolor=fill,
                      edgecolor=edge, alpha=self.alpha, linewidth=self.width, zorder=self.z)
        )  # fmt: skip


Mark = Line | Rule | Band | Span | Dots | Text | Box


@dataclass(frozen=True)
class Plot:
    """Two axes and what stands between them.

    Attributes:
        x, y: the axes.
        x_label: at the right end of the x axis.
        marks: in the order in which they are drawn.
    """

    x: Axis
    y: Axis
    x_label: str
    marks: tuple[Mark, ...]

    def named(self, gid: str) -> tuple[Mark, ...]:
        """The marks with this gid."""
        return tuple(mark for mark in self.marks if getattr(mark, "gid", "") == gid)

    def paint(self, axes: Axes, colors: Colors) -> None:
        """Draw it onto quiet axes: grid lines, one line at the bottom, the x label at its right end."""
        for side in ("top", "left", "right"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(colors["axis"])
        axes.spines["bottom"].set_linewidth(1)
        axes.set_facecolor("none")
        axes.set_axisbelow(True)
        for own, axis, length, pad in ((axes.xaxis, self.x, 3, 4), (axes.yaxis, self.y, 0, 6)):
            own.set_tick_params(length=length, color=colors["axis"], labelsize=axis.size, labelcolor=colors["muted"],
                                pad=pad)  # fmt: skip
            axis.paint(own)
            if axis.grid:
                own.grid(visible=True, color=colors["grid"], linewidth=1)
        Text(1, 0, self.x_label, "muted", SMALL, ha="right", va="top", offset=(0, -23), in_widths=True,
             in_heights=True)._paint(axes, colors)  # fmt: skip
        paint_marks(self.marks, axes, colors)


def paint_marks(marks: Iterable[Mark], axes: Axes, colors: Colors) -> None:
    """Draw marks, one above the other."""
    for mark in marks:
        mark._paint(axes, colors)


def dot(x: float, y: float, style: Style, *, gid: str, size: float = 7, hollow: bool = False) -> Dots:
    """One marker with a rim in the color of the page, so that it stands out from its line."""
    fill, edge = ("card", style.color) if hollow else (style.color, "card")
    return Dots((x,), (y,), style.marker, size, fill, edge, 1.6 if hollow else 1.2, gid=gid, clip=False)


def line(x: Sequence[float], y: Sequence[float], style: Style, *, width: float, gid: str) -> Line:
    """A line through points."""
    return Line(tuple(x), tuple(y), style, width, gid)


def tick(value: float) -> str:
    """A tick's number: short, exact, with a true minus sign.

    Example:
        >>> tick(1000.0), tick(0.25), tick(-2.0), tick(1e-05)
        ('1,000', '0.25', '−2', '1e-05')
    """
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e6 and value == round(value) else f"{value:g}"
    return text.replace("-", "−", 1) if value < 0 else text


def y_axis(values: Iterable[float], *, floor: float | None = None, log: bool = False) -> Axis:
    """The y axis of these numbers, with some air."""
    known = [value for value in values if math.isfinite(value)]
    low, high = (0.8 * min(known), 1.25 * max(known)) if log else limits(known, floor=floor)
    return Axis(low, high, log=log, ticks=_log_ticks(low, high) if log else None, grid=True)


def _log_ticks(low: float, high: float) -> Ticks | None:
    """1, 2 and 5 times powers of ten where few of those are in the range; None where they are enough by themselves."""
    tens = [10.0**exponent for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    if sum(low <= ten <= high for ten in tens) > 2:
        return None
    return tuple((ten * part, tick(float(f"{ten * part:.1g}"))) for ten in tens for part in (1, 2, 5)
                 if low <= ten * part <= high)  # fmt: skip


def steps_axis(last: float) -> Axis:
    """The x axis of a run of so many steps."""
    return Axis(-0.02 * last, 1.02 * last or 1)


def limits(values: Iterable[float], *, floor: float | None = None, margin: float = 0.06) -> tuple[float, float]:
    """A range for the y axis with some air; (0, 1) where there is nothing to show."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return (0.0, 1.0)
    low, high = min(known), max(known)
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    air = margin * (high - low)
    return (low - air if floor is None or low - air >= floor else min(floor, low), high + air)


def spans_decades(values: Iterable[float]) -> bool:
    """Whether a logarithmic axis serves better: all positive, and the greatest over 20 times the least."""
    known = [value for value in values if math.isfinite(value)]
    return bool(known) and min(known) > 0 and max(known) > 20 * min(known)


def cut_at(values: Iterable[float]) -> float | None:
    """Where to cut an axis off so that a few huge values do not flatten the rest; None where nothing is huge."""
    known = sorted(value for value in values if math.isfinite(value))
    if len(known) < 20:
        return None
    usual = known[int(0.95 * (len(known) - 1))]
    return 1.5 * usual if usual > 0 and known[-1] > 6 * usual else None
