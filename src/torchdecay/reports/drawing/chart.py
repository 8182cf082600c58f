"""One chart of a page: its plot, what is said about it, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchdecay.reports.drawing.axes import Axis, evenly
from torchdecay.reports.drawing.marks import Line, Mark, Text, paint_marks
from torchdecay.reports.drawing.palette import SMALL, Colors, Style
from torchdecay.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = tuple[str, ...]


@dataclass(frozen=True)
class Plot:
    """Two axes and what stands between them, in the order in which it is drawn."""

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
        if self.y.log:
            # Below the axis, where no line can run into it.
            Text(0, 0, "↑ log scale", "muted", SMALL, va="top", offset=(0, -23), in_widths=True,
                 in_heights=True)._paint(axes, colors)  # fmt: skip
        paint_marks(self.marks, axes, colors)


@dataclass(frozen=True)
class Key:
    """One entry of a legend: what it is called and how it looks."""

    label: str
    style: Style
    index: int


@dataclass(frozen=True)
class Chart:
    """One chart: what it draws and how to say it.

    Attributes:
        name: file name without ending, unique on a page.
        title: two or three words.
        alt: what it shows, in numbers, for whoever does not see it.
        caption: the finding in one or two sentences.
        plot: what is drawn.
        height: in 1/72 inch, without title and legend.
        left: room for the numbers of the y axis.
        keys: the legend.
        more: lines that a page draws on demand, each with its name.
        head, rows: the numbers behind it, as a table.
    """

    name: str
    title: str
    alt: str
    caption: str
    plot: Plot
    height: float = 250.0
    left: float = 46.0
    keys: tuple[Key, ...] = ()
    more: tuple[tuple[Key, Line], ...] = ()
    head: Row = ()
    rows: tuple[Row, ...] = ()


def rows_at(steps: Sequence[float], curves: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[Row, ...]:
    """The numbers behind curves over steps at eleven of them; a curve without that step has an empty cell."""
    known = [dict(zip(x, y, strict=True)) for x, y in curves]
    picked = [steps[i] for i in evenly(len(steps), 11)]
    return tuple((f"{x:,.0f}", *(number(curve[x]) if x in curve else "" for curve in known)) for x in picked)
