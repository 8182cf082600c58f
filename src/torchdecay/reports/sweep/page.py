"""The page of a sweep: charts, a table and words, all plain text until the template escapes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchdecay.errors import TaskError
from torchdecay.reports.comparison.page import runs_as_csv, slug, when
from torchdecay.reports.document import Page, Section
from torchdecay.reports.drawing.chart import Chart, Key
from torchdecay.reports.drawing.svg import Picture, titled
from torchdecay.reports.sweep.advice import Next, Notice, nexts, notices
from torchdecay.reports.sweep.course import along_path, gap_path, halving_chart, path_curves, path_keys
from torchdecay.reports.sweep.map import map_chart
from torchdecay.reports.sweep.points import Points
from torchdecay.reports.sweep.response import response_chart
from torchdecay.reports.sweep.sentences import headline, verdict
from torchdecay.reports.sweep.table import Table, table_of
from torchdecay.text import counted, listing, number, prose, shown

if TYPE_CHECKING:
    from torchdecay.lab.sweeps.result import Sweep


# Every name that a chart of a sweep may have, as file name patterns: a page written again takes what it lacks away.
FIGURES = (
    "map",
    "halving",
    "*-by-coefficient",
    "*-by-coefficient-close",
    *(f"{part}-{what}" for part in ("train", "validation", "test") for what in ("loss", "score")),
    "weight-norm",
)


@dataclass(frozen=True)
class SweepView:
    """Everything of one sweep that a page says.

    Attributes:
        tracked: sections whose lines a press on the legend hides; the others have legends of their own.
    """

    id: str
    title: str
    headline: str
    sure: str
    notices: tuple[Notice, ...]
    verdict: tuple[str, ...]
    nexts: tuple[Next, ...]
    hero: Chart | None
    sections: tuple[Section, ...]
    keys: tuple[Key, ...]
    tracked: tuple[Section, ...]
    table: Table
    csv: str
    facts: tuple[tuple[str, str], ...]
    made: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    command: str

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All charts, in order."""
        hero = () if self.hero is None else (self.hero,)
        return (*hero, *(chart for section in (*self.sections, *self.tracked) for chart in section.charts))


def sweep_view(sweep: Sweep) -> SweepView:
    """Arrange a sweep for a page."""
    points = Points(sweep)
    said, sure = headline(points)
    hero = _hero(points)
    drawn = along_path(points)
    parts = ("train", "validation", "test")
    names = [f"{part}_score" for part in parts if sweep.score_name] + [f"{part}_loss" for part in parts]
    left_out = len(sweep.points) - len(drawn)
    at = f" All at {points.lr_name(drawn[0][0].lr_scale)}." if drawn and len(points.scales) > 1 else ""
    curves = Section(
        "curves",
        "While training",
        "Lines are means over seeds, from weak to strong decay; bands reach from the lowest to the highest seed."
        + (f" {len(drawn)} of {len(sweep.points)} points are drawn." if left_out else "")
        + at,
        tuple(path_curves(points, drawn, [*names, "weight_norm"])),
    )
    return SweepView(
        id=slug(sweep.task),
        title=f"{shown(sweep.title or sweep.task)}: {shown(sweep.form)}",
        headline=said,
        sure=sure,
        notices=notices(points),
        verdict=tuple(prose(line) for line in verdict(sweep).splitlines()),
        nexts=nexts(points),
        hero=hero,
        sections=tuple(section for section in _sections(points, hero) if section.charts),
        keys=path_keys(points, drawn),
        tracked=(curves,) if curves.charts else (),
        table=table_of(points),
        csv=runs_as_csv(points.renamed(sweep.points)),
        facts=tuple((shown(what), prose(value)) for what, value in sweep.facts),
        made=_made(sweep),
        notes=tuple(prose(note) for note in sweep.notes),
        command=shown(sweep.command, most=4000),
    )


def page_of(sweep: Sweep) -> Page:
    """The page of one sweep."""
    arranged = sweep_view(sweep)
    short = {"effect": "Effect", "halving": "Halving", "curves": "Curves"}
    parts = [(one.id, short[one.id]) for one in (*arranged.sections, *arranged.tracked)]
    return Page(
        title=arranged.title,
        description=arranged.headline,
        links=tuple(
            (f"{arranged.id}-{part}", text) for part, text in [*parts, ("table", "Table"), ("about", "Repeat it")]
        ),
        charts={arranged.id: arranged.charts},
        template="sweep.html.j2",
        context={"view": arranged},
        numbers={"sweep.json": sweep.to_json(verdict=verdict(sweep))},
        earlier=FIGURES,
    )


def picture_of(sweep: Sweep) -> Picture:
    """What the coefficient does: against the deciding measure, or as a map where two numbers were varied.

    Raises:
        TaskError: no run ended with a finite number.
    """
    drawn = _hero(Points(sweep))
    if drawn is None:
        raise TaskError("the sweep has no finished run, so there is nothing to draw.", fix="Let one finish.")
    return titled(drawn)


def _hero(points: Points) -> Chart | None:
    return map_chart(points) or response_chart(points, points.sweep.measure)


def _sections(points: Points, hero: Chart | None) -> Iterable[Section]:
    def known(*charts: Chart | None) -> tuple[Chart, ...]:
        found = [chart for chart in charts if chart is not None]
        return tuple(chart for chart in found if hero is None or chart.name != hero.name)

    sweep = points.sweep
    what = "score" if sweep.score_name else "loss"
    response = response_chart(points, sweep.measure)
    yield Section(
        "effect",
        "What the coefficient does",
        "Where training and test part, the model learns rows by heart. The choice is made on validation rows alone; "
        "test rows are drawn to be looked at.",
        known(
            response,
            response_chart(points, sweep.measure, close=True),
            gap_path(points, what),
            response_chart(points, "validation_loss"),
            gap_path(points, "loss") if what == "score" else None,
            response_chart(points, "weight_norm"),
        ),
        keys=() if response is None else response.keys,
    )
    yield Section(
        "halving",
        "Successive halving",
        "At each dotted line only the better third of the values went on: most of the time went to what looked good.",
        known(halving_chart(points)),
    )


def _made(sweep: Sweep) -> tuple[tuple[str, str], ...]:
    training = sum(run.seconds for run in sweep.runs)
    if sweep.groups:
        tried = f"{len(sweep.points)} points, {_range(sweep)} for each group"
    else:
        tried = f"{counted(len({p.value for p in sweep.points} - {None}), 'value')}, {_range(sweep)}"
    lines = [
        ("form", f"{sweep.form}{f': {sweep.equation}' if sweep.equation else ''}"),
        ("tried", tried),
        *((f"group {name}", selector) for name, selector in sweep.groups),
        ("search", sweep.search),
        ("rule", "the best mean" if sweep.rule == "best" else "the largest within 1 standard error of the best"),
        ("seeds", listing([str(seed) for seed in sweep.seeds], most=12)),
        ("steps", f"{sweep.num_steps:,} ({sweep.step_name}s)" if sweep.step_name != "step" else f"{sweep.num_steps:,}"),
        *([("learning rate", f"{sweep.lr:.6g}")] if sweep.lr is not None else []),
        ("engine", f"{sweep.engine}{f': {sweep.why_engine}' if sweep.why_engine else ''}"),
        ("time", f"{number(sweep.seconds)} s; {number(training)} s of training in {counted(len(sweep.runs), 'run')}"),
        *([("store", sweep.store)] if sweep.store else []),
        *sweep.versions.items(),
        *([("made", when(sweep.created))] if sweep.created else []),
    ]
    return tuple((shown(name, most=60), prose(value)) for name, value in lines)


def _range(sweep: Sweep) -> str:
    """The range of coefficients in words."""
    return f"{sweep.low:g} to {sweep.high:g}" if sweep.low != sweep.high else f"{sweep.low:g}"
