"""What a page says of one result, as values: plain text and charts, which the template escapes and places."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from torchdecay.reports.drawing.chart import Chart, Key, Row
from torchdecay.text import capital, prose, shown

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.sweeps.result import Sweep

_NUMBER = re.compile(r"[≤≥<>–]?\s*[−+-]?\d[\d,.]*(e[+-]?\d+)?(\s|%|$)|–")


Pairs = tuple[tuple[str, str], ...]
"""Names and values."""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        head: of the columns.
        rows: each begins with its name.
        keys: for each row the numbers that it is sorted by; empty for a table that can't be sorted.
        tags: for each row what stands beside its name; "chosen" colors it.
        series: for each row the line that it is of, -1 for none: the page offers to draw it.
    """

    head: Row
    rows: tuple[Row, ...]
    keys: tuple[Row, ...] = ()
    tags: Row = ()
    series: tuple[int, ...] = ()

    @property
    def words(self) -> tuple[bool, ...]:
        """Which columns hold words rather than numbers: they begin at the left, and long ones are broken."""
        columns = ([cell for cell in column if cell] for column in zip(*self.rows, strict=True))
        return tuple(2 * sum(not _NUMBER.match(cell) for cell in column) > len(column) for column in columns)


@dataclass(frozen=True)
class Fold:
    """Something to unfold: a name, a summary, lines, and a table of which so many rows are left out."""

    head: str
    summary: str
    equation: str
    lines: Row
    table: Table
    left_out: int = 0


@dataclass(frozen=True)
class Section:
    """Some charts under one heading.

    Attributes:
        id: for links.
        heading, intro: what it shows and how to read it.
        charts: in order.
        keys: a legend of its own, where it is not the article's.
        table: numbers below the charts.
        remarks: sentences below that.
        folds: what can be unfolded.
        short: the text of its link; "" is the heading.
        tracked: whether a press on the article's legend hides its lines.
        csv: every run's numbers to save: the end of the file's name, and a link that holds them.
    """

    id: str
    heading: str
    intro: str = ""
    charts: tuple[Chart, ...] = ()
    keys: tuple[Key, ...] = ()
    table: Table | None = None
    remarks: Row = ()
    folds: tuple[Fold, ...] = ()
    short: str = ""
    tracked: bool = False
    csv: tuple[str, str] | None = None

    def __bool__(self) -> bool:
        return bool(self.charts or self.folds or (self.table and self.table.rows))


@dataclass(frozen=True)
class Notice:
    """Something to be wary of; a traceback can be unfolded."""

    head: str
    text: str
    traceback: str = ""


@dataclass(frozen=True)
class Next:
    """What to run next, and why."""

    why: str
    command: str


@dataclass(frozen=True)
class Card:
    """Points to read, a command (None for no word of one), and pairs of a name and a value."""

    heading: str
    points: Row = ()
    command: str | None = None
    pairs: Pairs = ()


@dataclass(frozen=True, kw_only=True)
class Article:
    """One result on a page.

    Attributes:
        id: for links.
        title: what was looked at; `name` where there is little room.
        headline: what the result says, in a sentence.
        sure: what to know about that.
        origin: what it was made from, with what and when, in pairs of a name and a value.
        notices: what to be wary of.
        verdict: the whole of what it says; the first `open_lines` are not folded away.
        nexts: what to run next.
        hero: the chart beside the headline.
        keys: the legend of the sections that are tracked.
        steps_per_epoch: 0 where nobody knows; the axis of steps can be one of epochs.
        sections: in order; empty ones are left out.
        cards: how to read and repeat it.
    """

    id: str
    title: str
    headline: str
    name: str = ""
    sure: str = ""
    origin: Pairs = ()
    notices: tuple[Notice, ...] = ()
    verdict: Row = ()
    open_lines: int = 8
    nexts: tuple[Next, ...] = ()
    hero: Chart | None = None
    keys: tuple[Key, ...] = ()
    steps_per_epoch: float = 0.0
    sections: tuple[Section, ...] = ()
    cards: tuple[Card, ...] = ()

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All charts, in order."""
        hero = () if self.hero is None else (self.hero,)
        return (*hero, *(chart for section in self.sections for chart in section.charts))

    @property
    def runs(self) -> list[tuple[bool, list[Section]]]:
        """The sections that are not empty, those that are tracked together."""
        known = filter(None, self.sections)
        return [(on, list(some)) for on, some in itertools.groupby(known, key=lambda one: one.tracked)]

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """For the bar at the top: ids and texts."""
        links = [(one.id, one.short or one.heading) for one in self.sections if one]
        links += [("about", "Repeat it")] if self.cards else []
        return tuple((f"{self.id}-{id}", text) for id, text in links)


@dataclass(frozen=True, kw_only=True)
class Page:
    """One article or several, and the files beside them.

    Attributes:
        title: of the page.
        description: of the page, for search engines.
        articles: in order.
        example: of the demo, what stands below them: steps that `reports.example` arranged.
        numbers: file name → JSON; a page of its own name has its only one under that name. Without any, the figures
            are no files either.
        grows: whether the training goes on, so that the page will be written again: opened, it looks for that.
    """

    title: str
    description: str
    articles: tuple[Article, ...]
    example: tuple[object, ...] = ()
    numbers: Mapping[str, str] = field(default_factory=dict)
    grows: bool = False

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """For the bar at the top: ids and texts."""
        if len(self.articles) == 1 and not self.example:
            return self.articles[0].links
        below = (("example", "One step by hand"),) if self.example else ()
        return (*((one.id, capital(one.name)) for one in self.articles), *below)


def page_with(article: Article, **numbers: str) -> Page:
    """The page of one article."""
    return Page(title=article.title, description=article.headline, articles=(article,), numbers=numbers)


def article_on(result: Comparison | Sweep, verdict: str, how: Row, again: Card, **own: Any) -> Article:
    """The result of a task: its verdict, how to read it, what the task was, how it was run, and what is its `own`."""
    facts, made = dict(result.facts), when(result.created)
    known = {**facts, **result.versions}
    picked = [(name, known[name]) for name in ("optimizer", "torch", "torchdecay") if name in known]
    # How many batches the training rows make, where it says so.
    rows, batch = (re.match(r"[\d,]+", facts.get(name, "")) for name in ("train rows", "batch"))
    task = [Card("The task", pairs=pairs_of(result.facts))] if facts else []
    repeat = replace(
        again,
        command=shown(result.command, most=4000),
        pairs=pairs_of((*again.pairs, *result.versions.items(), *made)),
    )
    return Article(
        id=slug(result.task),
        origin=pairs_of((*picked, *made)),
        verdict=tuple(map(prose, verdict.splitlines())),
        steps_per_epoch=int(rows[0].replace(",", "")) / int(batch[0].replace(",", "")) if rows and batch else 0.0,
        cards=(Card("How to read it", (*how, *map(prose, result.notes))), *task, repeat),
        **own,
    )


def pairs_of(values: Iterable[tuple[str, str]]) -> Pairs:
    """Names and values, each safe to show."""
    return tuple((shown(name, most=60), prose(value)) for name, value in values)


def when(stamp: str, name: str = "made") -> Pairs:
    """When it was made, as a person reads it; what is no time stamp stays as it is."""
    with contextlib.suppress(ValueError):
        stamp = f"{datetime.fromisoformat(stamp):%Y-%m-%d %H:%M %Z}".strip()
    return ((name, stamp),) if stamp else ()


def slug(name: str) -> str:
    """A name for ids and files: lower-case letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "task"
