"""Drawing onto matplotlib axes: what all charts share. No pyplot, so a user's own figures and settings stay alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torchdecay.reports.drawing.palette import Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 420.0
TEXT, SMALL = 12.5, 11.5

Colors = Mapping[str, str]


@dataclass(frozen=True)
class Key:
    """One entry of a legend: what it is called and how it looks."""

    label: str
    style: Style
    index: int


@dataclass(frozen=True)
class Chart:
    """One chart: how to draw it and how to say it.

    Attributes:
        name: file name without ending, unique on a page.
        title: two or three words.
        alt: what it shows, in numbers, for whoever does not see it.
        caption: the finding in one or two sentences.
        draw: draws onto axes, in the colors of a palette.
        height: in the units of `WIDTH`, without title and legend.
        left: room for the numbers of the y axis.
        keys: the legend.
        head, rows: the numbers behind it, as a table.
    """

    name: str
    title: str
    alt: str
    caption: str
    draw: Callable[[Axes, Colors], None]
    height: float = 250.0
    left: float = 46.0
    keys: tuple[Key, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = field(default=())


def frame(axes: Axes, colors: Colors, *, x_label: str, log: bool = False) -> None:
    """Quiet axes: horizontal grid lines, one line at the bottom, the x label at its right end."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colors["axis"])
    axes.spines["bottom"].set_linewidth(1)
    axes.set_facecolor("none")
    axes.tick_params(axis="y", length=0, labelsize=TEXT, labelcolor=colors["muted"], pad=6)
    axes.tick_params(axis="x", length=3, color=colors["axis"], labelsize=TEXT, labelcolor=colors["muted"], pad=4)
    axes.grid(axis="y", color=colors["grid"], linewidth=1)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="y", which="minor", length=0)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.annotate(
        x_label,
        (1, 0),
        xytext=(0, -23),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="top",
        color=colors["muted"],
        fontsize=SMALL,
        parse_math=False,
    )


def plain_text(axes: Axes, x: float, y: float, text: str, color: str, **options: Any) -> None:
    """Text that is never read as mathematics: a label may hold dollar signs."""
    options.setdefault("fontsize", TEXT)
    axes.text(x, y, text, color=color, parse_math=False, **options)


def tick(value: float) -> str:
    """A tick's number: short, exact, with a true minus sign.

    Example:
        >>> tick(1000.0), tick(0.25), tick(-2.0), tick(1e-05)
        ('1,000', '0.25', '−2', '1e-05')
    """
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e6 and value == round(value) else f"{value:g}"
    return text.replace("-", "−", 1) if value < 0 else text


def line(
    axes: Axes, x: Sequence[float], y: Sequence[float], style: Style, colors: Colors, *, width: float, gid: str
) -> None:
    """One line in its style; NaN breaks it."""
    axes.plot(
        x,
        y,
        color=colors[style.color],
        linestyle=style.linestyle,
        linewidth=width,
        solid_capstyle="round",
        dash_capstyle="butt",
        solid_joinstyle="round",
        gid=gid,
        zorder=3,
    )


def dot(
    axes: Axes, x: float, y: float, style: Style, colors: Colors, *, gid: str, size: float = 7, hollow: bool = False
) -> None:
    """One marker with a rim in the color of the page, so that it stands out from its line."""
    own = colors[style.color]
    axes.plot(
        [x],
        [y],
        linestyle="none",
        marker=style.marker,
        markersize=size,
        clip_on=False,
        gid=gid,
        zorder=5,
        markerfacecolor=colors["card"] if hollow else own,
        markeredgecolor=own if hollow else colors["card"],
        markeredgewidth=1.6 if hollow else 1.2,
    )


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
