"""The numbers that a chart hands to the page's script."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from reports import samples
from torchdecay.reports.comparison.curves import curve_chart
from torchdecay.reports.comparison.gaps import gap_chart
from torchdecay.reports.drawing.marks import Line
from torchdecay.reports.drawing.readout import curves_of


def test_curves_are_those_of_the_chart_to_five_digits() -> None:
    """Every label's mean, least and greatest at its steps, and the axes as they are drawn."""
    result = samples.comparison()
    chart = curve_chart(result, "test_loss")
    assert chart is not None
    about = json.loads(curves_of(chart))
    assert [line["label"] for line in about["lines"]] == list(result.labels)
    assert about["x"] == [chart.plot.x.low, chart.plot.x.high, False]
    runs = result.of(result.labels[0])
    line = about["lines"][0]
    assert about["xs"] == list(runs[0].steps) and "x" not in line
    assert line["seeds"] == [pytest.approx(run.test_loss, rel=5e-5) for run in runs] and line["every"] == 1
    for place, value in enumerate(line["y"]):
        values = [run.test_loss[place] for run in runs]
        assert math.isclose(value, sum(values) / len(values), rel_tol=5e-5)
        assert math.isclose(line["low"][place], min(values), rel_tol=5e-5)
        assert math.isclose(line["high"][place], max(values), rel_tol=5e-5)


def test_what_is_not_finite_is_null() -> None:
    """JSON has no NaN, and a gap is a gap."""
    chart = curve_chart(samples.comparison(), "test_loss")
    assert chart is not None
    marks = [
        replace(mark, y=[math.nan, math.inf, *mark.y[2:]]) if isinstance(mark, Line) else mark
        for mark in chart.plot.marks
    ]
    about = json.loads(curves_of(replace(chart, plot=replace(chart.plot, marks=tuple(marks)))))
    assert [line["y"][:2] for line in about["lines"]] == [[None, None]] * 3


def test_a_chart_of_pairs_has_no_curves() -> None:
    """Where training ended is no curve: its picture says the numbers itself."""
    chart = gap_chart(samples.comparison(), "loss")
    assert chart is not None
    assert curves_of(chart) == ""
