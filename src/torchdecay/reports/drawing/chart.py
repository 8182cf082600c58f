"""One chart of a page: its plot, what is said about it, and the numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torchdecay.reports.drawing.palette import Style
from torchdecay.reports.drawing.plot import Plot


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
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = field(default=())
