"""The page and the pictures of a history: every number in them comes from it, and no name can break them."""

from __future__ import annotations

import dataclasses
import math

import pytest

import torchdecay as td
from torchdecay.errors import LoadError, TaskError
from torchdecay.observe.monitor.columns import packed
from torchdecay.observe.monitor.history import History
from torchdecay.observe.monitor.series import Event, Record, Series
from torchdecay.observe.recorded.record import RunRecord, RunSummary, Seen, Stepped
from torchdecay.reports.drawing.palette import styles
from torchdecay.reports.history import MOST, article_of, quantity_chart
from torchdecay.reports.recorded import page_of
from torchdecay.text import number, percent

pytestmark = pytest.mark.long


def make_history(groups: int = 2, *, records: int = 12, lost_at: int = 999) -> History:
    series = tuple(
        Series(name=f"group {i}", decay="decoupled(0.1)" if i < groups - 1 else "", source="state", num_elements=10 - i)
        for i in range(groups)
    )
    made = tuple(
        Record(
            step=100 * i or 1,
            first=0,
            columns={
                "weight_norm": packed([2.0 + i] * groups),
                "planned_shrink": packed([0.01] * (groups - 1) + [0.0]),
                "realized_shrink": packed([0.01 if i < lost_at else 0.0] * (groups - 1) + [0.0]),
                "decay_norm": packed([0.02] * groups),
                "update_norm": packed([0.1] * groups),
                "rotation": packed([0.3] * groups),
                "predicted_rotation": packed([0.2] * (groups - 1) + [math.nan]),
            },
        )
        for i in range(records)
    )
    event = Event(step=500, kind="lost", group="group 0", what="decay took nothing.", why="Why.", fix="Fix.")
    return History(series=series, records=made, events=(event,) if lost_at < records else (), every_steps=100)


def test_the_page_says_what_happened(tmp_path) -> None:
    """One file without anything fetched: a chart per quantity, each alarm, a row per group."""
    page = td.report(make_history(lost_at=5), tmp_path / "out" / "run.html")
    text = page.read_text()
    assert [path.name for path in page.parent.iterdir()] == ["run.html"]
    assert "Decay was lost: 1 alarm in 12 recorded steps, 1 to 1,100." in text
    assert "Step 500: lost, group 0" in text and "Decay took nothing. Why. Fix." in text
    assert text.count("<svg") >= 4 and "http://" not in text.replace("http://www.w3.org", "")
    assert td.report(make_history(), tmp_path).name == "index.html"


def test_the_headline_says_so_when_nothing_was_wrong() -> None:
    """No alarm is a result too; the page opens with what decay took of the weights."""
    history = make_history()
    arranged = article_of(history)
    share = 1 - math.exp(-history.shrink("group 0").realized[-1])
    assert arranged.headline == f"Decay took {percent(share)} of each weight in 1,100 steps, as planned."
    assert arranged.sure.startswith("Decay did what was planned: no alarm in 12")
    (lost,) = [article_of(make_history(lost_at=5)).headline]
    assert "; planned" in lost and "as planned" not in lost
    assert " in steps 600 to 1,100, as planned." in article_of(history.select(steps=(600, 1100))).headline


def test_the_page_names_what_was_recorded() -> None:
    """Optimizer, model, command, file, versions and date stand in the opening."""
    about = {"optimizer": "AdamW", "model": "Net", "command": "train.py --lr 1", "file": "run.jsonl"}
    made = dataclasses.replace(make_history(), about=about, versions={"torch": "2.13"}, created="2030-01-02T03:04:05")
    assert article_of(made).origin == (*about.items(), ("torch", "2.13"), ("made", "2030-01-02 03:04"))


def test_planned_and_realized_stand_in_one_chart() -> None:
    """The solid line is what was measured, the thin one what was planned; in percent left, as other pages have it."""
    history = make_history(lost_at=5)
    chart = quantity_chart(history, "shrink", ["group 0"], styles(1))
    assert chart is not None
    shrink = history.shrink("group 0")
    assert shrink.realized is not None and shrink.planned is not None
    assert shrink.realized[-1] < 0.6 * shrink.planned[-1]
    assert chart.rows[-1] == ("1,100", number(100 * math.exp(-shrink.realized[-1])))
    assert f"{number(100 * math.exp(-shrink.planned[-1]))} expected" in chart.alt
    turned = quantity_chart(history, "rotation", ["group 0"], styles(1))
    assert turned is not None and turned.rows[-1][1] == f"{math.degrees(0.3):.1f}"


def test_quantities_that_nobody_has_are_left_out() -> None:
    """No empty chart, and no section without charts; what nothing pulls has no ratio."""
    arranged = article_of(make_history())
    assert [section.id for section in arranged.sections] == ["shrink", "norms", "rotation", "groups"]
    ratio = next(chart for chart in arranged.charts if chart.name == "ratio")
    assert [key.label for key in ratio.keys] == ["group 0"]


def test_of_many_groups_the_largest_are_drawn_and_all_are_listed() -> None:
    """And the page says that some are missing from the charts."""
    arranged = article_of(make_history(40))
    assert len(arranged.keys) == MOST and arranged.keys[0].label == "group 0"
    assert "Of 40 groups the 6 largest are drawn." in arranged.sure
    assert arranged.sections[-1].table is not None and len(arranged.sections[-1].table.rows) == 40


def test_groups_that_rang_are_drawn_before_larger_ones() -> None:
    """An alarm about a group that no chart shows would lead nowhere; all charts have one axis of steps."""
    history = make_history(40, lost_at=5)
    (event,) = history.events
    several = [
        dataclasses.replace(event, group="group 30"),
        dataclasses.replace(event, group="group 35", kind="differs"),
    ]
    arranged = article_of(dataclasses.replace(history, events=tuple(several)))
    assert {"group 30", "group 35", "group 0"} <= {key.label for key in arranged.keys}
    assert "those with alarms, then the largest" in arranged.sure
    assert arranged.sure.startswith(
        "Decay was lost (1) and decay differed from the plan (1): 2 alarms in 12 recorded steps, 1 to 1,100."
    )
    assert len({chart.plot.x for chart in arranged.charts}) == 1
    assert arranged.hero is not None and arranged.hero.name == "shrink"
    assert ("recorded steps", "12, one of every 100") in arranged.cards[0].pairs


def test_alarms_of_one_step_and_kind_are_told_together() -> None:
    """A checkpoint that loses all decay rings once for each group; nobody wants to read that forty times."""
    history = make_history(lost_at=5)
    (event,) = history.events
    events = tuple(dataclasses.replace(event, group=f"group {i}") for i in range(2))
    (notice,) = article_of(dataclasses.replace(history, events=events)).notices
    assert notice.head == "Step 500: lost, group 0 and group 1" and notice.text.startswith("The first of them:")


def test_names_can_not_break_the_page(tmp_path) -> None:
    """Names come from models, decays from plans: they are shown, not run."""
    history = make_history(lost_at=5)
    evil = "</svg><script>alert(1)</script>\u202e$x$"
    series = tuple(dataclasses.replace(one, name=one.name + evil, decay=evil) for one in history.series)
    events = tuple(dataclasses.replace(one, group=evil, what=evil) for one in history.events)
    text = td.report(dataclasses.replace(history, series=series, events=events), tmp_path / "run.html").read_text()
    assert "<script>alert" not in text and "\u202e" not in text


@pytest.mark.parametrize("form", ["svg", "png"])
@pytest.mark.parametrize("quantity", ["shrink", "ratio", "rotation", "weight_norm"])
def test_a_figure_is_one_quantity(tmp_path, form, quantity) -> None:
    """For light and for dark pages, as SVG or PNG."""
    history = make_history()
    light = td.figure(history, tmp_path / f"light.{form}", quantity=quantity).read_bytes()
    dark = td.figure(history, tmp_path / f"dark.{form}", quantity=quantity, dark=True).read_bytes()
    assert light != dark
    assert light == td.figure(history, tmp_path / f"again.{form}", quantity=quantity).read_bytes().replace(
        b"again", b"light"
    )
    assert light[1:4] == b"PNG" if form == "png" else b"<title>" in light


def test_what_can_not_be_drawn_is_told(tmp_path) -> None:
    """An empty history, a quantity without numbers, an ending that is no picture."""
    with pytest.raises(TaskError, match="no record"):
        td.report(History(), tmp_path)
    with pytest.raises(TaskError, match="nothing to draw"):
        td.figure(History(), tmp_path / "x.svg")
    with pytest.raises(LoadError, match="no quantity"):
        td.figure(make_history(), tmp_path / "x.svg", quantity="zeros")
    with pytest.raises(TaskError, match="can't be written as"):
        td.figure(make_history(), tmp_path / "x.pdf")


def test_a_long_run_is_drawn_with_few_points() -> None:
    """The first and the last are there; a page of 10,000 records stays small."""
    chart = quantity_chart(make_history(records=5000), "weight_norm", ["group 0"], styles(1))
    assert chart is not None and chart.rows[0][0] == "1" and chart.rows[-1][0] == "499,900" and len(chart.rows) == 11


def test_the_page_of_a_run_opens_with_what_ran_and_what_decay_did() -> None:
    """Command, optimizer, model, versions and date; of several optimizers the one that is spoken of is named."""
    summary = RunSummary(
        command="train.py --lr 1", created="2030-01-02T03:04:05", versions={"torch": "2.13"}, ended=True,
        optimizers=(Stepped(number=1, optimizer="AdamW", model="Net", steps=1100),),
    )  # fmt: skip
    history = make_history()
    (article,) = page_of(RunRecord(summary, (Seen(history=history),))).articles
    said = article_of(history).headline
    assert article.headline == said and article.hero is not None
    assert any("decay took" in line for line in article.verdict) and "AdamW 1" not in " ".join(article.verdict)
    assert article.origin == (
        ("command", "torchdecay run train.py --lr 1"), ("optimizer", "AdamW"), ("model", "Net"),
        ("torch", "2.13"), ("made", "2030-01-02 03:04"),
    )  # fmt: skip
    both = dataclasses.replace(
        summary, optimizers=(*summary.optimizers, Stepped(number=2, optimizer="Muon", steps=1100))
    )
    (article,) = page_of(RunRecord(both, (Seen(), Seen(history=history)))).articles
    assert article.headline == f"Muon 2: {said}"
    assert all(line.startswith("Muon 2: ") for line in article.verdict if "decay took" in line)
    longer = dataclasses.replace(
        summary, optimizers=(Stepped(number=1, optimizer="AdamW", steps=2 * history.steps[-1]),)
    )
    (article,) = page_of(RunRecord(longer, (Seen(history=history),))).articles
    assert f" in the first {history.steps[-1]:,} of {2 * history.steps[-1]:,} steps" in article.headline
    drawn = [key.index for key in article.keys]
    assert drawn == sorted(set(drawn))
