"""The page of a sweep: charts, a table and words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torchdecay.errors import TaskError
from torchdecay.reports.article import Card, Page, Section, article_on, page_with
from torchdecay.reports.comparison.page import runs_as_csv
from torchdecay.reports.drawing.chart import Chart
from torchdecay.reports.drawing.svg import Picture, titled
from torchdecay.reports.sweep.advice import nexts, notices
from torchdecay.reports.sweep.course import along_path, gap_path, halving_chart, path_curves, path_keys
from torchdecay.reports.sweep.map import map_chart
from torchdecay.reports.sweep.points import Points
from torchdecay.reports.sweep.response import response_chart
from torchdecay.reports.sweep.sentences import headline, verdict
from torchdecay.reports.sweep.table import table_of
from torchdecay.text import counted, listing, number, prose, shown, spelled

if TYPE_CHECKING:
    from torchdecay.lab.sweeps.points import Point
    from torchdecay.lab.sweeps.result import Sweep
    from torchdecay.reports.drawing.palette import Style

_HOW_TO_READ = (
    "Marks that overlap between values: these seeds can’t tell them apart. Of values that can’t be told apart, any "
    "will do.",
    "A value belongs to its optimizer, learning rate and number of steps; compare half-lives between runs, not values.",
    "The winner’s validation number is a little too good, as it is the best of many; its test number less so.",
)


def page_of(sweep: Sweep) -> Page:
    """The page of one sweep."""
    points, words = Points(sweep), verdict(sweep)
    said, sure = headline(points)
    hero, drawn = _hero(points), along_path(points)
    article = article_on(
        sweep,
        words,
        _HOW_TO_READ[: 2 if sweep.metric else 3],
        Card("How it was run", pairs=tuple(_made(sweep))),
        title=f"{shown(sweep.title or sweep.task)}: {shown(sweep.form)}",
        headline=said,
        sure=sure,
        notices=notices(points),
        open_lines=0,
        nexts=nexts(points),
        hero=hero,
        keys=path_keys(points, drawn),
        sections=tuple(_sections(points, hero, drawn)),
    )
    return page_with(article, **{"sweep.json": sweep.to_json(verdict=words)})


def picture_of(sweep: Sweep) -> Picture:
    """What the coefficient does: against the deciding measure, or as a map where two numbers were varied."""
    drawn = _hero(Points(sweep))
    if drawn is None:
        raise TaskError("the sweep has no finished run, so there is nothing to draw.", fix="Let one finish.")
    return titled(drawn)


def _hero(points: Points) -> Chart | None:
    return map_chart(points) or response_chart(points, points.sweep.measure)


def _sections(points: Points, hero: Chart | None, drawn: Sequence[tuple[Point, Style]]) -> Iterator[Section]:
    def known(*charts: Chart | None) -> tuple[Chart, ...]:
        found = [chart for chart in charts if chart is not None]
        return tuple(chart for chart in found if hero is None or chart.name != hero.name)

    sweep = points.sweep
    what = "score" if sweep.score_name else "loss"
    response = response_chart(points, sweep.measure)
    yield Section(
        "effect",
        "What the coefficient does",
        "The one number that each run told of itself decides."
        if sweep.metric
        else "Where training and test diverge, the model learns rows by heart. The choice is made on validation rows "
        "alone; test rows are drawn to be looked at.",
        known(
            response,
            response_chart(points, sweep.measure, close=True),
            gap_path(points, what),
            response_chart(points, "validation_loss"),
            gap_path(points, "loss") if what == "score" else None,
            response_chart(points, "weight_norm"),
        ),
        keys=() if response is None else response.keys,
        short="Effect",
    )
    yield Section(
        "halving",
        "Successive halving",
        "At each dotted line only the better third of the values went on: most of the time went to what looked good."
        f"{' ' * bool(sweep.why_rungs)}{prose(sweep.why_rungs)}",
        known(halving_chart(points)),
        short="Halving",
    )
    parts = ("train", "validation", "test")
    names = [f"{part}_score" for part in parts if sweep.score_name] + [f"{part}_loss" for part in parts]
    some = f" {len(drawn)} of {len(sweep.points)} points are drawn." if len(drawn) < len(sweep.points) else ""
    at = f" All at {points.lr_name(drawn[0][0].lr_scale)}." if drawn and len(points.scales) > 1 else ""
    yield Section(
        "curves",
        "While training",
        "Lines are means over seeds, from weak to strong decay; bands reach from the lowest to the highest seed."
        f"{some}{at}",
        # A single number while training is the one at the end.
        tuple(path_curves(points, drawn, [*names, "weight_norm"]))
        if any(len(run.steps) > 1 for run in sweep.runs)
        else (),
        short="Curves",
        tracked=True,
    )
    table, notes = table_of(points)
    yield Section(
        "table",
        "Every value",
        "Mean ± standard deviation over seeds, at the end."
        + ("" if sweep.metric else " The choice looks at validation alone."),
        table=table,
        remarks=notes,
        short="Table",
        csv=("sweep", runs_as_csv(points.renamed(sweep.points))),
    )


def _made(sweep: Sweep) -> list[tuple[str, str]]:
    training = sum(run.seconds for run in sweep.runs)
    steps = f"{sweep.num_steps:,}" if sweep.num_steps else ""
    if sweep.groups:
        tried = f"{len(sweep.points)} points, {_range(sweep)} for each group"
    else:
        tried = f"{counted(len({p.value for p in sweep.points} - {None}), 'value')}, {_range(sweep)}"
    return [
        ("form", f"{sweep.form}{f': {sweep.equation}' if sweep.equation else ''}"),
        ("tried", tried),
        *((f"group {name}", selector) for name, selector in sweep.groups),
        ("search", f"{sweep.search}{', seeds raced' if sweep.race else ''}"),
        ("rule", "the best mean" if sweep.rule == "best" else "the largest within 1 standard error of the best"),
        *([("best value", f"{spelled(best.low)} to {spelled(best.high)}, at 95 %")] if (best := sweep.optimum) else []),
        ("seeds", listing([str(seed) for seed in sweep.seeds], most=12)),
        *([("steps", steps if sweep.step_name == "step" else f"{steps} ({sweep.step_name}s)")] if steps else []),
        *([("learning rate", f"{sweep.lr:.6g}")] if sweep.lr is not None else []),
        ("engine", f"{sweep.engine}{f': {sweep.why_engine}' if sweep.why_engine else ''}"),
        ("time", f"{number(sweep.seconds)} s; {number(training)} s of training in {counted(len(sweep.runs), 'run')}"),
        *([("store", sweep.store)] if sweep.store else []),
    ]


def _range(sweep: Sweep) -> str:
    """The range of coefficients in words."""
    return f"{sweep.low:g} to {sweep.high:g}" if sweep.low != sweep.high else f"{sweep.low:g}"
