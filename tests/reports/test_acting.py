"""Planned and measured on the page: what agrees, what parts, what is unknown, and what nobody looked at."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports import samples
from torchdecay.lab.comparisons.comparison import Comparison
from torchdecay.lab.training.planned_and_measured import GroupCourse, PlannedAndMeasured
from torchdecay.observe.monitor.series import Event
from torchdecay.reports.comparison.page import article_of
from torchdecay.reports.comparison.planned_and_measured import (
    HEAD,
    MOST_CHARTS,
    MOST_REMARKS,
    acting_charts,
    acting_remarks,
    acting_rows,
)
from torchdecay.reports.drawing.chart import Chart
from torchdecay.reports.drawing.marks import Dots, Line


def of(*groups: GroupCourse, seeds: int = 1, **changes: Any) -> Comparison:
    """Two labels, the second with these groups."""
    made = samples.comparison(("none", "decoupled:1"), seeds=seeds)
    acting = PlannedAndMeasured(groups=groups, **changes)
    runs = tuple(
        replace(one, planned_and_measured=PlannedAndMeasured() if one.label == "none" else acting) for one in made.runs
    )
    return replace(made, runs=runs)


def lines(chart: Chart) -> dict[str, list[float]]:
    """The heights of what a chart draws, by name."""
    return {mark.gid: list(mark.y) for mark in chart.plot.marks if isinstance(mark, Line | Dots)}


def lost(course: GroupCourse) -> GroupCourse:
    """A seeded fault: from half-way on nothing more is measured."""
    assert course.realized is not None
    half = course.realized[len(course.realized) // 2]
    return replace(course, realized=tuple(min(one, half) for one in course.realized))


def test_agreement_is_called_agreement_and_a_loss_a_loss() -> None:
    """The chart of a run that lost its decay midway says so; the one of a run that kept it does not."""
    kept, gone = samples.course("d"), lost(samples.course("d"))
    (fine,), (bad,) = acting_charts(of(kept)), acting_charts(of(gone))
    assert fine.caption.startswith("As forecast, decay by itself would have taken 63.4 % of each weight.")
    assert bad.caption.startswith(
        "Not as forecast: decay by itself would have taken 39.5 % of each weight; the forecast was 63.4 %."
    )
    assert "from 9.990 to 9.000" in fine.caption
    assert fine.caption in fine.alt and "over 100 steps" in fine.alt
    assert fine.rows[-1] == ("100", "36.6", "36.6", "90.1")
    assert bad.rows[-1][1:3] == ("36.6", "60.5")


def test_the_lines_are_drawn_apart() -> None:
    """Forecast, measurement and norm are three lines; without a measurement there are two, and no dot."""
    course = samples.course("d")
    (both,) = acting_charts(of(course))
    (alone,) = acting_charts(of(replace(course, realized=None, measured="not measured: why")))
    assert set(lines(both)) == {"acting-planned", "acting-measured", "acting-norm", "acting-end"}
    assert set(lines(alone)) == {"acting-planned", "acting-norm"}
    assert lines(both)["acting-planned"][-1] == pytest.approx(100 * 0.99**100)


def test_seeds_are_drawn_as_mean_and_range() -> None:
    """One seed of three loses its decay: the mean parts from the forecast, and the table shows the mean."""
    course = samples.course("d")
    made = of(course, seeds=3)
    odd = PlannedAndMeasured(groups=(lost(course),))
    runs = tuple(
        replace(one, planned_and_measured=odd) if (one.label, one.seed) == ("decoupled:1", 1) else one
        for one in made.runs
    )
    made = replace(made, runs=runs)
    (chart,) = acting_charts(made)
    assert chart.caption.startswith("Not as forecast")
    assert acting_rows(made)[0][HEAD.index("Gone: measured")] == "55.4 %"


def test_what_is_unknown_says_so_and_why() -> None:
    """Nothing known: no chart, a line of unknowns, and the reasons."""
    bare = GroupCourse(
        name="weight", decay="coupled(0.1)", num_elements=12, prediction="unknown", why="AdamW divides it",
        remarks=("unknown: AdamW divides it.",), steps=(1, 2), measured="not measured: it goes through the gradient",
        weight_norm=(1.0, 2.0),
    )  # fmt: skip
    made = of(bare)
    assert acting_charts(made) == ()
    ((_, *cells),) = acting_rows(made)
    assert cells == ["12 (weight)", *["unknown"] * 5, "1.000", "2.000"]
    assert acting_remarks(made) == (
        "decoupled:1, forecast: unknown: AdamW divides it.",
        "decoupled:1, not measured: it goes through the gradient.",
    )
    section = next(one for one in article_of(made).sections if one.id == "acting")
    assert section.table is not None and section.table.rows and not section.charts


def test_a_bound_is_called_a_bound() -> None:
    """Cautious decay may take less than its forecast, and that is no loss; more than it would be one."""
    bound = replace(lost(samples.course("d")), prediction="at most")
    (chart,) = acting_charts(of(bound))
    assert chart.caption.startswith(
        "Decay by itself would have taken 39.5 % of the weights; the forecast was at most 63.4 %."
    )
    assert acting_rows(of(bound))[0][2:4] == ("≤ 0.010", "≥ 69.0")
    assert bound.planned is not None
    (chart,) = acting_charts(of(replace(bound, realized=tuple(2 * one for one in bound.planned))))
    assert chart.caption.startswith("Not as forecast")


def test_alarms_of_one_kind_are_told_once() -> None:
    """Two seeds and two alarms each: one sentence that names seeds and the first step."""
    alarms = tuple(
        Event(step=step, kind="lost", group="weight", what=f"at {step}.", why="Why.", fix="Fix.") for step in (40, 60)
    )
    made = of(samples.course("d"), seeds=2, alarms=alarms, note="Not monitored: no.")
    assert acting_remarks(made)[1:] == (
        "decoupled:1: Not monitored: no.",
        "decoupled:1, seeds 0 and 1, alarm from step 40 on: lost: at 40. Why. Fix.",
    )


def test_groups_of_one_decay_are_named() -> None:
    """Where a decay pulls two groups differently, each has a chart of its own with its name."""
    made = of(samples.course("d"), replace(samples.course("e"), name="bias"))
    assert [chart.title for chart in acting_charts(made)] == [
        "Left of each weight, %: decoupled:1 · weight",
        "Left of each weight, %: decoupled:1 · bias",
    ]


def test_many_decays_stay_readable() -> None:
    """Thirty groups: a dozen charts, all lines in the table, and remarks that end with their count."""
    groups = [replace(samples.course("d"), name=f"g{i}", remarks=(f"too weak: {i}.",)) for i in range(30)]
    made = of(*groups)
    assert len(acting_charts(made)) == MOST_CHARTS and len(acting_rows(made)) == 30
    remarks = acting_remarks(made)
    assert len(remarks) == MOST_REMARKS + 1 and remarks[-1] == "And 14 more remarks, in the results."
    assert remarks[0] == "decoupled:1 · g0, forecast: too weak: 0."


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_is_not_finite_is_drawn_as_far_as_it_goes(value: float) -> None:
    """A step that takes all of a weight leaves nothing to go on with: the line ends, and the words say so."""
    course = samples.course("d")
    assert course.planned is not None and course.realized is not None
    broken = replace(course, realized=(*course.realized[:5], *[value] * 6), weight_norm=(0.0, *[math.nan] * 10))
    (chart,) = acting_charts(of(broken))
    assert "nothing can be counted" in chart.caption
    assert [math.isfinite(one) for one in lines(chart)["acting-measured"]] == [True] * 6 + [False] * 6
    assert all(map(math.isfinite, lines(chart)["acting-planned"]))


def test_results_without_it_have_no_such_section(tmp_path: Path) -> None:
    """A file of runs that nobody watched makes the page that it made before."""
    made = samples.comparison()
    bare = replace(made, runs=tuple(replace(one, planned_and_measured=None) for one in made.runs))
    assert "acting" not in [section.id for section in article_of(bare).sections if section]
    assert "acting" in [section.id for section in article_of(made).sections if section]
    only_none = replace(made, runs=tuple(one for one in made.runs if one.label == "none"))
    assert "acting" not in [section.id for section in article_of(only_none).sections if section]
