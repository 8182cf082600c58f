"""A forecast as one picture: what is left of a weight over the run, and the learning rate below it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torchdecay.errors import TaskError
from torchdecay.reports.article import Article, Page, Section, page_with
from torchdecay.reports.drawing.axes import Axis, tick, y_axis
from torchdecay.reports.drawing.chart import Chart, Key, Plot
from torchdecay.reports.drawing.marks import Line, Mark, Text, dot
from torchdecay.reports.drawing.palette import SMALL, Style, styles
from torchdecay.reports.drawing.svg import Panel, Picture, key_marks
from torchdecay.reports.tables import as_table
from torchdecay.text import counted, listing, number, percent, prose, shown

if TYPE_CHECKING:
    from torchdecay.observe.forecast.result import Forecast, GroupForecast

_WIDTH, _LEFT, _RIGHT = 760.0, 62.0, 24.0
_TOP, _RETENTION, _GAP, _RATE, _BELOW, _KEY = 96.0, 210.0, 76.0, 76.0, 62.0, 21.0
_MOST = 8
_TITLE = "What decay will do"
_LEFT_OF = "Left of a weight without gradient"


def picture_of(forecast: Forecast) -> Picture:
    """What is left of a weight over the run, and the learning rate below it."""
    every = _known(forecast)
    if not every:
        raise TaskError(
            "there is nothing to draw: no decay whose course is known.",
            " ".join(f"{group.decay}: {group.why}." for group in forecast.groups if group.why),
            "The forecast as text says what is lacking.",
        )
    drawn, look = every[:_MOST], styles(min(len(every), _MOST))
    height = _TOP + _RETENTION + _GAP + _RATE + _BELOW + _KEY * len(drawn)
    left_out = f"; {counted(len(every) - len(drawn), 'group')} not drawn" if len(every) > len(drawn) else ""
    cover: list[Mark] = [
        Text(20, 34, _TITLE, size=17, bold=True),
        Text(20, 56, shown(_run(forecast) + left_out, most=110), "muted"),
    ]
    panels = []
    for top, tall, title, plot in (
        (_TOP, _RETENTION, _LEFT_OF, retention_plot(drawn, look)),
        (_TOP + _RETENTION + _GAP, _RATE, "Learning rate", rates_plot(drawn, look)),
    ):
        cover.append(Text(20, top - 10, title, bold=True))
        panels.append(Panel(_LEFT, height - top - tall, _WIDTH - _LEFT - _RIGHT, tall, plot))
    top = _TOP + _RETENTION + _GAP + _RATE + _BELOW
    for row, (group, style) in enumerate(zip(drawn, look, strict=True)):
        y = top + _KEY * row
        cover += key_marks(style, 20, y - 4, length=28, width=2.2)
        cover.append(Text(56, y, shown(_label(group), most=62)))
        cover.append(Text(_WIDTH - _RIGHT, y, _numbers(group), "muted", ha="right"))
    return Picture("forecast", _TITLE, _alt(forecast, drawn), _WIDTH, height, tuple(panels), tuple(cover), dpi=160)


def page_of(forecast: Forecast) -> Page:
    """The page of a forecast: its table and its remarks."""
    said, *remarks = verdict(forecast).splitlines()
    sections = (Section("groups", "The groups", table=as_table(forecast), remarks=tuple(remarks)),)
    hero = chart_of(forecast)
    return page_with(
        Article(id="forecast", title=_TITLE, headline=said, sure=_run(forecast), hero=hero, sections=sections)
    )


def chart_of(forecast: Forecast) -> Chart | None:
    """What is left of a weight over the run; None where no course is known."""
    drawn = _known(forecast)[:_MOST]
    if not drawn:
        return None
    looks = enumerate(zip(drawn, look := styles(len(drawn)), strict=True))
    return Chart(
        name="left",
        title=_LEFT_OF,
        alt=_alt(forecast, drawn),
        caption="What decay by itself leaves of a weight: 1 is all of it.",
        plot=retention_plot(drawn, look),
        keys=tuple(Key(shown(_label(one), most=62), style, i) for i, (one, style) in looks),
    )


def _known(forecast: Forecast) -> list[GroupForecast]:
    return [group for group in forecast.groups if group.curve is not None and group.fraction]


def verdict(forecast: Forecast) -> str:
    """What decay will do to each group, and what the forecast remarks."""
    pulled = [group for group in forecast.groups if group.decay != "none" or group.remarks]
    if not pulled:
        return "Nothing decays."
    lines = [_said(group) for group in pulled]
    lines += [f"{_label(group)}, {one.kind}: {one.text}" for group in pulled for one in group.remarks]
    return "\n".join(prose(line) for line in lines)


def _said(group: GroupForecast) -> str:
    if group.total_shrink is None or group.half_life is None:
        return f"{_label(group)}: unknown: {group.why}."
    most = "at most " if group.prediction == "at most" else ""
    # "At most > 99.9 %" says two things at once.
    share = "100 %" if most and 0.999 < group.total_shrink < 1.0 else percent(group.total_shrink)
    taken = f"takes {most}{share} of each weight in {counted(group.num_steps, 'step')}"
    return f"{_label(group)}: decay by itself {taken}; {_numbers(group)}."


def retention_plot(drawn: Sequence[GroupForecast], look: Sequence[Style]) -> Plot:
    """What is left of a weight without gradient, over the steps."""
    # A weight that grows has an axis that holds what it does in the worst case, and no more than a hundredfold.
    most = max(max(group.curve.log_retention) for group in drawn if group.curve is not None)
    top = 1.06 * math.exp(min(max(most, 0.0), math.log(100.0)))
    marks: list[Mark] = []
    for index, (group, style) in enumerate(zip(drawn, look, strict=True)):
        assert group.curve is not None
        left = [math.exp(min(value, 700.0)) for value in group.curve.log_retention]
        marks.append(Line(group.curve.steps, left, style, 2.2, f"series-{index}-line"))
        if left[-1] <= top:
            marks.append(dot(group.curve.steps[-1], left[-1], style, gid=f"series-{index}-end"))
    return Plot(_steps(drawn), Axis(0.0, top, grid=True), "step", tuple(marks))


def rates_plot(drawn: Sequence[GroupForecast], look: Sequence[Style]) -> Plot:
    """The learning rates, over the steps; one line where all have the same."""
    known = [group.curve.lr for group in drawn if group.curve is not None and group.curve.lr is not None]
    marks: list[Mark] = []
    seen = set[tuple[float, ...]]()
    for index, (group, style) in enumerate(zip(drawn, look, strict=True)):
        if group.curve is None or group.curve.lr is None or (group.curve.lr in seen):
            continue
        seen.add(group.curve.lr)
        own = style if len(set(known)) > 1 else Style("muted", (), "")
        marks.append(Line(group.curve.steps, group.curve.lr, own, 1.8, f"series-{index}-lr"))
    if not known:
        marks.append(Text(0, 0.5, "not known", "muted", SMALL, in_widths=True, in_heights=True))
    height = y_axis([0.0, *(value for curve in known for value in curve)], floor=0.0)
    return Plot(_steps(drawn), replace(height, most_ticks=3), "step", tuple(marks))


def _steps(drawn: Sequence[GroupForecast]) -> Axis:
    last = max(group.num_steps for group in drawn)
    return Axis(-0.01 * last, 1.01 * last)


def _label(group: GroupForecast) -> str:
    where = f"{group.optimizer} {group.index}, " if group.optimizer else ""
    return f"{where}{group.decay}: {listing(group.names, most=1)}"


def _numbers(group: GroupForecast) -> str:
    assert group.half_life is not None
    half = f"half-life {number(group.half_life)} steps" if math.isfinite(group.half_life) else "no half-life"
    return half + (", at least" if group.prediction == "at most" else "")


def _run(forecast: Forecast) -> str:
    return f"{counted(forecast.num_steps, 'step')}; learning rate: {forecast.schedule}"


def _alt(forecast: Forecast, drawn: Sequence[GroupForecast]) -> str:
    ends = "; ".join(
        f"{_label(group)} leaves {tick(float(f'{math.exp(min(group.curve.log_retention[-1], 700.0)):.3g}'))}"
        for group in drawn
        if group.curve is not None
    )
    return f"What is left of a weight without gradient over {forecast.num_steps:,} steps: {ends}."
