"""What the charts show, and the words that say it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from reports import samples
from torchdecay.reports.comparison.curves import curve_chart
from torchdecay.reports.comparison.gaps import gap_chart
from torchdecay.reports.comparison.page import article_of
from torchdecay.reports.comparison.scans import scan_charts
from torchdecay.reports.comparison.sentences import headline
from torchdecay.reports.comparison.series import MOST_POINTS, Series, coincident, series_of
from torchdecay.reports.drawing.axes import cut_at, limits, spans_decades, steps_axis, y_axis
from torchdecay.reports.drawing.svg import svg_file


def long_series(count: int = 5001) -> Series:
    steps = tuple(range(count))
    values = tuple(1.0 + (-1) ** step * 0.5 for step in steps)
    return Series("x", 0, steps, values, values, values, 1)


def test_a_series_is_the_mean_and_the_range_over_seeds() -> None:
    """The line is the mean, the band reaches from the lowest to the highest seed."""
    series = series_of(samples.comparison(), "test_loss")[0]
    assert series.num_seeds == 3
    assert series.mean[-1] == pytest.approx(3.01)
    assert (series.low[-1], series.high[-1]) == pytest.approx((3.0, 3.02))


def test_a_thinned_series_keeps_its_ends_and_its_swing() -> None:
    """Five thousand points make a small file, and a curve that swings from 0.5 to 1.5 is still seen to."""
    full = long_series()
    thin = full.thinned()
    assert len(thin.steps) <= MOST_POINTS + 3
    assert (thin.steps[0], thin.steps[-1]) == (0, 5000)
    assert (thin.mean[0], thin.mean[-1]) == (full.mean[0], full.mean[-1])
    assert {*thin.low[1:-1]} == {0.5}
    assert {*thin.high[1:-1]} == {1.5}


def test_a_short_series_is_drawn_as_measured() -> None:
    """Nothing is averaged where there is room for every point."""
    assert long_series(200).thinned() == long_series(200)


def test_a_run_that_diverged_breaks_the_line_and_is_named() -> None:
    """A mean of the seeds that survived would flatter the decay."""
    series = series_of(samples.diverged(), "train_loss")[-1]
    assert [step for step, _ in series.finite] == [0, 10, 20]
    assert series.diverged == ((0, 30),)
    chart = curve_chart(samples.diverged(), "train_loss")
    assert chart is not None
    assert "seed 0 not finite from step 30 on" in chart.alt
    assert "diverged in 1 of 3 seeds" in chart.caption
    assert "The axis is cut" in chart.caption


def test_curves_that_lie_on_each_other_are_said_to() -> None:
    """A reader should not search for the line that is hidden below another."""
    made = samples.comparison()
    same = tuple(replace(run, label=made.labels[2]) for run in made.of(made.labels[1]))
    chart = curve_chart(replace(made, runs=(*made.runs[:6], *same)), "test_loss")
    assert chart is not None
    assert "coupled:0.1 and decoupled:0.1 lie on each other." in chart.caption
    apart = curve_chart(made, "test_loss")
    assert apart is not None
    assert "lie on each other" not in apart.caption


def test_coincident_looks_at_every_point() -> None:
    """Two lines that part in the middle are not the same, though they meet at both ends."""
    one = Series("a", 0, (0, 1, 2), (0.0, 1.0, 2.0), (0.0,) * 3, (0.0,) * 3, 1)
    other = replace(one, label="b", index=1)
    assert [len(group) for group in coincident([one, other])] == [2]
    assert coincident([one, replace(other, mean=(0.0, 1.5, 2.0))]) == []


def test_the_alternative_text_says_the_finding_in_numbers() -> None:
    """Whoever does not see the chart learns where each line began, ended and was best."""
    chart = curve_chart(samples.comparison(), "test_loss")
    assert chart is not None
    assert chart.alt.startswith("Test loss over 100 steps. none: from 2.010 to 3.010 (3 seeds, 3.000 to 3.020), best")
    assert "Best before the end: none (1.680 at step 30)" in chart.caption


def test_a_curve_that_no_run_has_makes_no_chart() -> None:
    """A task without a score has no empty accuracy chart."""
    bare = samples.comparison(score=False)
    assert curve_chart(bare, "test_score") is None
    assert gap_chart(bare, "score") is None
    assert gap_chart(bare, "loss") is not None


def test_the_gap_chart_gives_every_seed_a_pair_of_points() -> None:
    """M5.4: the gap of each decay is said with its spread, and each run is in the table."""
    chart = gap_chart(samples.comparison(), "loss")
    assert chart is not None
    assert len(chart.rows) == 9
    assert chart.rows[0] == ("none", "0", "0.200", "3.000")
    assert "none, 3 seeds: training 0.200 to 0.220, test 3.000 to 3.020, gap +2.800" in chart.alt


def test_M5_2_the_line_shows_loss_penalty_sum_and_where_each_is_least() -> None:
    """The sum of loss and penalty is least at smaller weights than the loss: that is why decay changes the loss."""
    none, coupled, _ = scan_charts(samples.comparison())
    assert [key.label for key in coupled.keys] == ["training loss", "penalty", "training loss + penalty", "test loss"]
    assert "Training loss is least at α = 1.2 (0.100)" in coupled.alt
    assert "training loss + penalty is least at α = 0.8" in coupled.alt
    assert coupled.head == ("α", "training loss", "penalty", "sum", "test loss")
    assert "No decay, so no penalty." in none.caption
    assert [key.label for key in none.keys] == ["training loss", "test loss"]


def test_a_scan_that_is_not_finite_is_drawn_without_its_minimum() -> None:
    """A diverged run has a page all the same."""
    made = samples.comparison(("none",), seeds=1)
    line = made.runs[0].line
    assert line is not None
    broken = replace(line, train_loss=(math.nan,) * len(line.alphas))
    (chart,) = scan_charts(replace(made, runs=(replace(made.runs[0], line=broken),)))
    assert "not a number" in chart.alt


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (samples.comparison(), "With decoupled:0.1, test accuracy ended at 0.830; without decay, at 0.710."),
        (samples.noise(), "With decoupled:0.1, test loss ended at"),
        (replace(samples.comparison(), runs=()), "No run was finished."),
        (samples.comparison(("none",)), "With none, test accuracy ended at 0.710, the mean of 3 seeds."),
    ],
)
def test_the_headline_is_the_finding(made: object, said: str) -> None:
    """The first sentence of the page says what happened."""
    assert headline(made)[0].startswith(said)  # type: ignore[arg-type]


def test_the_headline_claims_no_more_than_the_seeds_allow() -> None:
    """One seed is called one seed; seeds that overlap are no difference; harm is called harm."""
    assert headline(samples.comparison(seeds=1))[1] == "One seed: this happened once and is not a measured difference."
    made = samples.comparison(("none", "decoupled:1"))
    mixed = tuple(
        replace(run, test_score=(*(run.test_score or ())[:-1], 0.7 + 0.05 * ((run.seed + (run.label == "none")) % 2)))
        for run in made.runs
    )
    assert headline(replace(made, runs=mixed))[0] == "No difference in test accuracy that 3 seeds can show."
    worse = tuple(
        replace(run, test_score=(*(run.test_score or ())[:-1], 0.3 + 0.01 * run.seed)) if run.label != "none" else run
        for run in made.runs
    )
    assert headline(replace(made, runs=worse))[0].startswith("Decay did harm here")


def test_a_logarithmic_axis_of_few_decades_has_more_than_one_number() -> None:
    """Between two powers of ten stand their twos and fives; where there are many decades, they are enough."""
    assert [name for _, name in y_axis([0.4, 9.0], log=True).ticks or ()] == ["0.5", "1", "2", "5", "10"]
    assert y_axis([1e-6, 1.0], log=True).ticks is None


MANY = ("none", *(f"decoupled:{value}" for value in (0.01, 0.03, 0.1, 0.3, 1, 3, 10)))


def test_many_decays_are_told_apart_by_color_and_without_mud() -> None:
    """Seven go from weak to strong, no color twice; their bands wait for the pointer, those of few do not."""
    chart, few = (curve_chart(samples.comparison(labels), "test_loss") for labels in (MANY, MANY[:4]))
    assert chart is not None and few is not None
    assert len({key.style.color for key in chart.keys}) == 8 and chart.keys[0].style.color == "s0"
    assert [key.style.color for key in chart.keys[1:]] == [f"r{i}" for i in range(0, 13, 2)]
    (quiet,), (band,) = chart.plot.named("series-1-band"), few.plot.named("series-1-band")
    assert quiet.quiet and not band.quiet
    widths = [mark.width for i in range(8) for mark in chart.plot.named(f"series-{i}-line")]  # type: ignore[union-attr]
    assert max(widths) <= 10


def test_a_logarithmic_axis_says_so() -> None:
    """Ticks of 1 and 0.1 alone do not tell; a linear one says nothing."""
    made = samples.comparison()
    for curve, is_log in (("gradient_norm", True), ("test_loss", False)):
        chart = curve_chart(made, curve)
        assert chart is not None and chart.plot.y.log is is_log
        assert ("log scale" in svg_file(chart)) is is_log


def test_steps_are_written_in_full_below_a_chart() -> None:
    """A million beside 750,000, and not 1e+06."""
    chart = curve_chart(samples.comparison(), "test_loss")
    assert chart is not None
    wide = replace(chart, plot=replace(chart.plot, x=steps_axis(1e6)))
    assert "1,000,000" in svg_file(wide) and "1e+06" not in svg_file(wide)


def test_the_legend_of_scans_promises_what_each_draws() -> None:
    """Without a penalty there is none in the legend; one legend stands above charts that have the same."""
    made = samples.comparison()
    (section,) = [one for one in article_of(made).sections if one.id == "line"]
    assert len({chart.keys for chart in section.charts}) == 2 and section.keys == ()
    (alone,) = [one for one in article_of(samples.comparison(("none",))).sections if one.id == "line"]
    assert [key.label for key in alone.keys] == ["training loss", "test loss"]


def test_one_decay_is_told_by_the_mean_of_its_seeds() -> None:
    """Not by that of the first; runs that all diverged ended without a number."""
    made = samples.comparison(("none",), seeds=2)
    lost = tuple(replace(run, test_score=(math.nan,) * 11) for run in made.runs)
    assert headline(made)[0] == "With none, test accuracy ended at 0.705, the mean of 2 seeds."
    assert headline(replace(made, runs=lost))[0] == "With none, test accuracy ended without a finite number."


def test_axes_fit_what_they_show() -> None:
    """Few huge values are cut off, decades get a logarithm, and nothing at all still has an axis."""
    assert cut_at([1.0] * 50 + [1e6]) == pytest.approx(1.5)
    assert cut_at([1.0, 2.0, 3.0] * 20) is None
    assert cut_at([math.inf] * 100) is None
    assert limits([]) == (0.0, 1.0)
    low, high = limits([3.0, 3.0])
    assert low < 3.0 < high
    assert limits([0.01, 2.0], floor=0.0)[0] == 0.0
    assert spans_decades([0.01, 1.0])
    assert not spans_decades([0.0, 1.0])
