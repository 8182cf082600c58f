"""The page of a sweep: what it says, what it draws, and that nothing on it runs or is fetched."""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import torchdecay as td
from reports import samples, sweep_samples
from reports.test_page import addresses, headings, read
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.lab.sweeps.search import spaced
from torchdecay.reports.document import render
from torchdecay.reports.drawing.chart import Chart
from torchdecay.reports.drawing.marks import Box, Dots, Line, Rule, Text
from torchdecay.reports.sweep.advice import nexts, notices
from torchdecay.reports.sweep.course import along_path, gap_path, halving_chart
from torchdecay.reports.sweep.map import map_chart
from torchdecay.reports.sweep.page import page_of
from torchdecay.reports.sweep.points import Points
from torchdecay.reports.sweep.response import BARE, response_chart
from torchdecay.reports.sweep.sentences import headline
from torchdecay.reports.sweep.table import table_of

pytestmark = pytest.mark.long
EVERY = sweep_samples.every()


def chart_of(sweep: Sweep, draw: Callable[[Points], Chart | None]) -> Chart:
    chart = draw(Points(sweep))
    assert chart is not None
    return chart


def hero(sweep: Sweep) -> Chart:
    return chart_of(sweep, lambda one: response_chart(one, one.sweep.measure))


@pytest.mark.parametrize("name", EVERY)
def test_every_kind_of_sweep_has_a_page_that_fetches_nothing(name: str, tmp_path: Path) -> None:
    """One value, one seed, none finished, NaN, maps, groups, hostile names: a whole page with figures and numbers."""
    sweep = EVERY[name]
    page = td.report(sweep, tmp_path / "out")
    reader = read(page)
    assert page == tmp_path / "out" / "index.html"
    assert [one for one in addresses(reader) if not one.startswith(("#", "data:"))] == []
    levels = headings(reader)
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert Sweep.from_json((tmp_path / "out" / "sweep.json").read_text()).points == sweep.points
    figures = {path.stem for path in (tmp_path / "out" / "figures").glob("*.svg")}
    assert figures == {path.stem for path in (tmp_path / "out" / "figures").glob("*.png")}
    assert bool(figures) == bool(sweep.runs)
    ids = [str(attributes["id"]) for _, attributes in reader.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_a_page_that_is_named_has_its_files_beside_it_and_a_second_stands_beside_the_first(tmp_path: Path) -> None:
    """The first is replaced only where that is asked for: its figures do not stay, and files of others do."""
    (tmp_path / "a-figures").mkdir()
    (tmp_path / "a-figures" / "mine.svg").write_text("mine")
    td.report(EVERY["map"], tmp_path / "a.html")
    assert (tmp_path / "a-figures" / "map.png").exists()
    assert td.report(EVERY["plain"], tmp_path / "a.html") == tmp_path / "a-2.html"
    assert (tmp_path / "a-figures" / "map.png").exists() and (tmp_path / "a-2-figures").is_dir()
    assert td.report(EVERY["plain"], tmp_path / "a.html", overwrite=True) == tmp_path / "a.html"
    assert not (tmp_path / "a-figures" / "map.png").exists()
    assert (tmp_path / "a-figures" / "mine.svg").exists()
    assert (tmp_path / "a.json").exists()


def test_hostile_names_stand_on_the_page_as_text() -> None:
    """Names made of tags are escaped everywhere: in charts, tables, commands, tracebacks and attributes."""
    text = render(page_of(EVERY["nasty"]))
    assert text.count("<script>") == 1
    assert "<img" not in text
    assert "\x00" not in text
    assert "{{ 7 * 7 }}" in text
    assert text.count("&lt;script&gt;") > 10


@pytest.mark.parametrize(
    ("change", "said", "sure"),
    [
        ({}, "Use decoupled(1): validation accuracy 0.952, 95 % interval 0.947 to 0.957.", "larger than"),
        ({"seeds": 1}, "decoupled(1) did best: validation accuracy 0.950.", "One seed"),
        ({"seeds": 2}, "decoupled(1) did best: validation accuracy 0.951, 95 % interval 0.938 to 0.964.", "Two"),
        ({"seeds": 2, "peak": 1e4}, "Best without decay: validation accuracy 0.801, 95 % interval 0.788 to 0.814.",
         "Two seeds"),
        ({"noise": True}, "Nothing can be learned here, so no value is right.", "noise"),
        ({"peak": 1e4}, "Best without decay: validation accuracy 0.802, 95 % interval 0.797 to 0.807.", ""),
    ],
)  # fmt: skip
def test_the_first_sentence_is_the_verdict(change: dict[str, object], said: str, sure: str) -> None:
    """What to take with its interval where the seeds show it, and no more than they show."""
    made = sweep_samples.sweep(**change)  # type: ignore[arg-type]
    assert headline(Points(made))[0] == said
    assert sure in headline(Points(made))[1]


def test_no_measurable_difference_is_said_first() -> None:
    """Seeds that disagree about the sign are not a gain, however good the mean looks."""
    made = sweep_samples.sweep((0.1, 1.0), seeds=3)
    wild = {0: 0.5, 1: 0.99, 2: 0.99}
    runs = tuple(
        replace(one, test_score=(*one.test_score[:-1], wild[one.seed]))
        if one.label == "decoupled(1)" and one.test_score
        else one
        for one in made.runs
    )
    said, sure = headline(Points(replace(made, runs=runs)))
    assert said.startswith(
        "No measurable difference: decoupled(1) did best, at validation accuracy 0.952, 95 % interval"
    )
    assert "3 seeds can’t show a difference" in sure


def test_what_a_reader_should_be_wary_of_is_noticed() -> None:
    """An edge, a stop, what is missing, divergence and failures each have a notice; a good sweep has none."""
    assert notices(Points(EVERY["plain"])) == ()
    assert "upper end" in notices(Points(sweep_samples.sweep(peak=100.0)))[0].head
    # Where these seeds can't tell the choice from no decay, nobody is sent beyond it.
    level = sweep_samples.sweep((0.1, 1.0))
    wild = {0: 0.5, 1: 0.99, 2: 0.99}
    runs = tuple(
        replace(one, test_score=(*one.test_score[:-1], wild[one.seed])) if one.test_score else one for one in level.runs
    )
    unsure = replace(
        level, runs=tuple(one if one.label != "none" else old for one, old in zip(runs, level.runs, strict=True))
    )
    assert notices(Points(level)) and notices(Points(unsure)) == ()
    stopped = replace(EVERY["plain"], runs=EVERY["plain"].runs[:-1], interrupted=True, store="a.db")
    (one,) = notices(Points(stopped))
    assert "17 runs finished" in one.text
    assert "100 (seed 2)" in one.text
    assert "a.db" in one.text
    assert "100" in notices(Points(EVERY["diverged"]))[0].text
    both, other = notices(Points(EVERY["failed"]))
    assert (both.head, other.head) == ("2 runs failed", "A run failed: 10, seed 1")
    assert "100, seed 0 and 100, seed 1" in both.text
    assert both.traceback.count("\n") == 2


def test_a_traceback_is_folded_and_escaped() -> None:
    """It is there for whoever needs it, does not push the page down, and its text is no markup."""
    text = render(page_of(EVERY["failed"]))
    assert "<details><summary>Traceback</summary>" in text
    assert "ValueError: &lt;b&gt;" in text


def test_what_to_run_next_depends_on_the_outcome() -> None:
    """Finer around a clear best, wider at an edge, and in Python where there is no command; each is one line to run."""
    inner = nexts(Points(EVERY["plain"]))
    assert [shlex.split(one.command)[1] for one in inner] == ["compare", "sweep"]
    assert "--points 5 " in inner[1].command and inner[1].command.endswith("--from 0.1 --to 10")
    (edge,) = nexts(Points(sweep_samples.sweep(peak=100.0)))
    assert edge.why.startswith("A wider range")
    assert "--to 10000" in edge.command
    (python,) = nexts(Points(sweep_samples.sweep(task_words="", command="")))
    assert python.command == "sweep(task, 'decoupled', search=Search(0.1, 10, points=8), seeds=3)"
    (again,) = nexts(Points(EVERY["empty"]))
    assert again.why == "Finish what was stopped" and again.command.endswith("--store sweep.db")


def test_a_map_made_in_python_is_not_answered_with_a_command_that_forgets_half() -> None:
    """Neither groups nor learning rates are among what a sweep without a command could type again."""
    for name in ("map", "groups"):
        made = replace(EVERY[name], command="", rule="best")
        assert [one for one in nexts(Points(made)) if one.command.startswith("torchdecay sweep")] == []


def test_the_chart_shows_each_seed_the_mean_the_run_without_decay_and_the_choice() -> None:
    """15 seeds' marks, one line, one dashed line across, one marked point, one band of a standard error."""
    chart = hero(EVERY["plain"])
    assert [key.label for key in chart.keys] == [
        "mean, and each seed", "no decay", "within 1 standard error of the best", "chosen",
        "where the best value lies, 95 %",
    ]  # fmt: skip
    assert "At 1: 0.952 (0.950 to 0.954)" in chart.alt
    assert "Without decay: 0.802" in chart.alt
    assert chart.rows[3] == ("1", "3", "0.952", "0.950", "0.954")
    (mean,) = chart.plot.named("scan-line")
    assert isinstance(mean, Line)
    assert mean.x == (-2.0, -1.0, 0.0, 1.0, 2.0) and mean.y[2] == pytest.approx(0.952)
    seeds = [mark for mark in chart.plot.marks if isinstance(mark, Dots) and mark.size == 4.2]
    assert [len(mark.x) for mark in seeds] == [3] * 5 and seeds[2].y == pytest.approx((0.95, 0.952, 0.954))
    (across,) = [mark for mark in chart.plot.marks if isinstance(mark, Rule) and mark.axis == "y"]
    assert across.at == pytest.approx(0.802) and across.style == BARE
    error, place = (mark for mark in chart.plot.marks if isinstance(mark, Box))
    assert (place.left, place.right) == (-1.0, 1.0)
    assert (error.low, error.high) == pytest.approx((0.952 - 0.002 / math.sqrt(3), 0.952))
    (taken,) = chart.plot.named("scan-chosen")
    assert isinstance(taken, Dots) and taken.x == (0.0,) and taken.y == (mean.y[2],)


def test_the_one_without_decay_is_the_same_in_every_chart() -> None:
    """The best of losses is their least: a chart of a loss shows the run without decay that did best, not worst."""
    made = EVERY["map"]
    best = made.runs[0].label

    bad = tuple(
        replace(one, validation_score=tuple(0.5 * v for v in one.validation_score or ()),
                validation_loss=tuple(9.0 for _ in one.steps))
        if one.decay == "none" and one.label != best else one
        for one in made.runs
    )  # fmt: skip
    changed = replace(made, runs=bad)
    spot = Points(changed).bare("validation_loss")
    assert spot is not None
    assert spot.point.label == best


def test_a_second_chart_looks_closer_where_a_cliff_hides_the_differences() -> None:
    """Only then: a chart that repeats the first would be noise."""
    cliff = replace(
        EVERY["plain"],
        runs=tuple(
            replace(one, validation_score=(*[0.1] * 10,)) if one.label == "decoupled(100)" else one
            for one in sweep_samples.sweep((0.3, 0.6, 1.0, 2.0, 100.0)).runs
        ),
        points=sweep_samples.sweep((0.3, 0.6, 1.0, 2.0, 100.0)).points,
    )
    assert response_chart(Points(cliff), "validation_score", close=True) is not None
    assert response_chart(Points(EVERY["plain"]), "validation_score", close=True) is None


def test_with_groups_each_has_a_line_at_the_best_of_the_others() -> None:
    """By the measure that decides, also in the chart of a loss."""
    for curve in ("validation_score", "validation_loss"):
        chart = chart_of(EVERY["three"], lambda one, curve=curve: response_chart(one, curve))
        assert [key.label for key in chart.keys][:3] == [f"{name}, others at their best" for name in
                                                         ("body", "neck", "head")]  # fmt: skip
        assert len(chart.plot.named("scan-line")) == 3


def test_a_map_has_a_cell_for_each_pair_and_lines_of_equal_product() -> None:
    """Learning rate up, coefficient across, none before the first; the dashed lines fall by one decade a decade."""
    chart = chart_of(EVERY["map"], map_chart)
    assert len(chart.rows) == 12
    assert [name for _, name in chart.plot.x.ticks or ()] == ["none", "0.1", "1", "10"]
    assert [name for _, name in chart.plot.y.ticks or ()] == ["0.0001", "0.001", "0.01"]
    told = [mark.text for mark in chart.plot.marks if isinstance(mark, Text)]
    assert told[0] == "learning rate" and told.count("0.952") == 3 and len(told) == 13
    products = [mark for mark in chart.plot.marks if isinstance(mark, Line)]
    assert len(products) == 5
    assert all(one.y[0] - one.y[1] == pytest.approx(one.x[1] - one.x[0]) for one in products)
    assert "equal" not in chart.caption
    assert "lr · coefficient is the same" in chart.caption
    assert map_chart(Points(EVERY["plain"])) is None
    assert map_chart(Points(EVERY["three"])) is None
    groups = chart_of(EVERY["groups"], map_chart)
    assert groups.title == "Validation accuracy by body and head"
    assert "lr ·" not in groups.caption


def test_points_that_form_no_grid_are_dots_on_the_map() -> None:
    """Values drawn at random have a place each, not a cell of an almost empty grid."""
    made = sweep_samples.sweep((0.1, 0.3, 1.0, 3.0, 10.0, 30.0), scales=(0.1, 0.3, 1.0, 3.0, 10.0, 30.0), seeds=1)
    keep = {one.label for i, one in enumerate(made.points) if one.is_bare or i % 8 == 3}
    few = replace(
        made,
        points=tuple(one for one in made.points if one.label in keep),
        runs=tuple(one for one in made.runs if one.label in keep),
    )

    def drawn(sweep: Sweep, kind: type) -> int:
        return sum(isinstance(mark, kind) for mark in chart_of(sweep, map_chart).plot.marks)

    assert (drawn(made, Box), drawn(made, Dots)) == (2 * len(made.points), 0)
    assert (drawn(few, Box), drawn(few, Dots)) == (0, 2 * len(few.points))


def test_curves_are_colored_from_weak_to_strong_with_the_chosen_one_among_them() -> None:
    """Of 48 values seven are drawn: both ends, and the one that was taken."""
    values = tuple(point.value for point in EVERY["wide"].points if point.value is not None)
    made = sweep_samples.sweep(values, seeds=2, peak=values[26])
    drawn = along_path(Points(made))
    names = [Points(made).name(point) for point, _ in drawn]
    chosen = made.best
    assert chosen is not None
    assert names[0] == "none"
    assert len(names) == 8
    assert names[1] == "0.0001"
    assert names[-1] == Points(made).name(made.points[-1])
    assert Points(made).name(chosen.point) in names
    assert [style.color for _, style in drawn] == ["s0", *(f"r{i}" for i in range(0, 13, 2))]


def test_the_gap_chart_stands_training_beside_test() -> None:
    """With the run without decay before the first value, and the least and the widest gap in words."""
    chart = chart_of(EVERY["plain"], lambda one: gap_path(one, "score"))
    assert chart.rows[0][0] == "none"
    assert chart.rows[3] == ("1", "1.000", "0.942", "−0.058")
    assert "narrowest for 1 (−0.058)" in chart.caption
    assert gap_path(Points(EVERY["groups"]), "score") is None


def test_halving_says_where_each_was_stopped() -> None:
    """Bars as long as the steps that a value got."""
    chart = chart_of(EVERY["halving"], halving_chart)
    assert dict(chart.rows)["0.1"] == "30"
    assert dict(chart.rows)["1"] == "90"
    assert chart.caption.startswith("Stopped: 3 of 6 at step 10; 1 of 3 at step 30.")
    assert halving_chart(Points(EVERY["plain"])) is None
    assert "3 stopped at 30" in {row[0]: row[1] for row in table_of(Points(EVERY["halving"]))[0].rows}["0.1"]


def test_the_table_holds_every_point_and_what_its_value_means() -> None:
    """Half-lives in steps and as a share; what is not known is a dash with its reason below."""
    table, _ = table_of(Points(EVERY["plain"]))
    by_name = {name: cells for name, *cells in table.rows}
    assert list(by_name) == ["none", "0.01", "0.1", "1", "10", "100"]
    assert by_name["1"][0] == "3"
    assert by_name["1"][-4:] == ["693", "7.7 times", "9 %", "1.500"]
    assert by_name["none"][-4:-1] == ["never", "never", "0 %"]
    assert table.tags == ("", "", "", "chosen", "", "")
    assert table.keys[0][-4:-1] == ("inf", "inf", "0") and {len(row) for row in table.keys} == {len(table.head)}
    assert "No half-life: each group has its own." in table_of(Points(EVERY["groups"]))[1]
    broken, _ = table_of(Points(EVERY["diverged"]))
    assert broken.rows[-1][1:3] == ("0, 3 diverged", "–") and broken.keys[-1][2] == ""
    assert table_of(Points(EVERY["failed"]))[0].rows[-1][1] == "0, 2 failed"


def test_the_table_marks_the_best_mean_where_the_rule_takes_another() -> None:
    """The rule of one standard error takes a stronger value, and the page says which mean was best."""
    made = sweep_samples.sweep((1.0, 1.1, 1.2), rule="one_se")
    table, _ = table_of(Points(made))
    assert {row[0]: tag for row, tag in zip(table.rows, table.tags, strict=True) if tag} == {
        "1": "best mean",
        "1.2": "chosen",
    }
    assert "Chosen is 1.2, the strongest of these." in hero(made).caption


def test_points_have_short_names_that_stay_apart() -> None:
    """The form is said once, in the title; numbers that differ in a late digit are told in full."""
    near = sweep_samples.sweep((0.1, 0.10000001))
    apart = replace(near, points=tuple(replace(one, label=f"{i}") for i, one in enumerate(near.points)), runs=())
    assert len(set(Points(apart).names.values())) == 3
    every = [Points(EVERY["map"]).name(one) for one in EVERY["map"].points]
    assert every[:2] == ["none at lr 0.0001", "0.1 at lr 0.0001"]
    assert Points(EVERY["map"]).renamed(EVERY["map"].points).labels == tuple(every)
    assert Points(replace(EVERY["map"], lr=None)).name(EVERY["map"].points[1]) == "0.1 at lr × 0.1"


def test_engine_seconds_versions_and_command_are_there() -> None:
    """Whoever gets the page can tell what ran it and run it again."""
    page = re.sub("</?span>", "", render(page_of(EVERY["plain"])))
    told = ("stacked: 20 ms a step, against 50 for process", "12.0 s; 27.0 s of training in 18 runs", "0.1.0",
            "torchdecay sweep toy --from 0.01 --to 100 --points 5 --seeds 3", "2030-01-02 03:04 UTC")  # fmt: skip
    assert [one for one in told if one not in page] == []


def test_every_name_of_the_samples_is_hostile() -> None:
    """A seeded fault: were names not escaped, the check above would see them."""
    text = render(page_of(EVERY["nasty"])).replace("&lt;script&gt;", "<script>")
    assert text.count("<script>") > 10
    assert samples.NASTY[0].startswith("<script>")


def test_the_page_of_very_many_values_folds() -> None:
    """Of 300 values a hundred rows stand in the table and no seed is drawn; the chosen one is always there."""
    made = sweep_samples.sweep(spaced(0.01, 100, 300))
    points = Points(made)
    table, notes = table_of(points)
    assert 100 <= len(table.rows) < 105 and "chosen" in table.tags and notes[0].startswith(f"{len(table.rows)} of 301")
    chart = chart_of(made, lambda points: response_chart(points, made.measure))
    assert not [mark for mark in chart.plot.marks if isinstance(mark, Dots) and mark.size == 4.2]
    assert "Seeds are not drawn" in chart.caption


@pytest.mark.slow
def test_the_page_of_two_thousand_runs_stays_small() -> None:
    """As docs/cli.md says."""
    made = sweep_samples.sweep(spaced(0.001, 1000, 400), seeds=5)
    assert len(made.runs) > 2000
    assert len(render(page_of(made)).encode()) < 3_000_000
