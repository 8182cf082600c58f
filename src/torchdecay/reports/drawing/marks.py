"""What stands between the axes of a chart, as values that can be compared, in names of colors.

No pyplot, so a user's own figures and settings stay alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torchdecay.reports.drawing.palette import TEXT, Colors, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Line:
    """A line in its style; NaN breaks it. `each` are the lines that it is the mean of, which a page draws on demand."""

    x: Sequence[float]
    y: Sequence[float]
    style: Style
    width: float
    gid: str = ""
    alpha: float | None = None
    cap: Literal["round", "butt", "projecting"] = "round"
    z: float = 3
    each: Sequence[Sequence[float]] = ()

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
    """The shade between two lines; one that is quiet is drawn by the page, under the pointer."""

    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    color: str
    gid: str
    alpha: float = 0.16
    quiet: bool = False

    def _paint(self, axes: Axes, colors: Colors) -> None:
        if self.quiet:
            return
        axes.fill_between(self.x, self.low, self.high, color=colors[self.color], alpha=self.alpha, linewidth=0,
                          gid=self.gid)  # fmt: skip


@dataclass(frozen=True)
class Dots:
    """Markers, in colors or "" for none; `at_bottom` counts y in heights of the plot."""

    x: Sequence[float]
    y: Sequence[float]
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

    `in_widths` and `in_heights` count x and y in those of the plot, `offset` goes from there in points, and with a halo
    the color of the page goes around them.
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


Mark = Line | Rule | Band | Dots | Text | Box


def paint_marks(marks: Iterable[Mark], axes: Axes, colors: Colors) -> None:
    """Draw marks, one above the other."""
    for mark in marks:
        mark._paint(axes, colors)


def dot(x: float, y: float, style: Style, *, gid: str, size: float = 7, hollow: bool = False) -> Dots:
    """One marker with a rim in the color of the page, so that it stands out from its line."""
    fill, edge = ("card", style.color) if hollow else (style.color, "card")
    return Dots((x,), (y,), style.marker, size, fill, edge, 1.6 if hollow else 1.2, gid=gid, clip=False)
