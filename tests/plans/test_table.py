"""The table: one line for each row, or for each kind of repeated block, and names are text, never code."""

from __future__ import annotations

import dataclasses
import html.parser
import io
import time

import pytest
import torch
from rich.console import Console
from torch import nn

import torchdecay as td
from plans.examples import Deep, Odd
from torchdecay.plans.table import fold

pytestmark = pytest.mark.filterwarnings("ignore::torchdecay.UnknownRoleWarning")

HOSTILE = [
    "[red]x[/red]",
    "[/]",
    "<script>alert(1)</script>",
    "a&b\"'",
    "\x1b[31mred\x1b[0m",
    "bell\x07",
    "two\nlines",
    "tab\there",
    "back\\slash\\",
    ":smile:",
    "\u202eright to left",
    "größe",
    "権重",
    "[link=https://example]x[/link]",
    "%s{0}",
]


def hostile_model() -> nn.Module:
    model = nn.Module()
    for name in HOSTILE:
        model.add_module(name, nn.Linear(2, 2))
    return model


def labels(table: object) -> list[str]:
    return [line.label for line in table.lines]  # type: ignore[attr-defined]


# ── Folding ──


def test_hundreds_of_rows_fold_into_one_line_for_each_kind() -> None:
    """100 blocks of 12 parameters become 12 lines, and each says how many rows it stands for."""
    plan = td.plan(Deep(100), td.decoupled(0.1))
    assert len(plan) == 1 + 100 * 12 + 2
    lines = plan.table().lines
    assert len(lines) == 15
    assert sum(len(line.rows) for line in lines) == len(plan)
    assert [row.name for line in lines for row in line.rows[:1]][:2] == ["embed.weight", "blocks.0.attn.in_proj_weight"]
    assert "blocks.*.up.weight  x100" in labels(plan.table())
    assert "head.weight" in labels(plan.table())


def test_every_row_is_in_exactly_one_line() -> None:
    """Folding loses no row and shows none twice."""
    rows = td.plan(Deep(30), 0.1).rows
    folded = [row for line in fold(rows) for row in line.rows]
    assert sorted(row.name for row in folded) == sorted(row.name for row in rows)


def test_rows_that_differ_are_not_folded_together() -> None:
    """Another decay, option, shape or reason in one block stands on a line of its own."""
    ordered = [
        td.rule("blocks.3.up.weight", td.times(0.5)),
        td.rule("blocks.4.up.weight", lr=0.1),
        td.rule("blocks.5.up.weight"),
        *td.STANDARD,
    ]
    shown = labels(td.plan(Deep(10), td.decoupled(0.1), rules=ordered).table(group=True))
    assert [label for label in shown if ".up.weight" in label] == [
        "blocks.*.up.weight  x7",
        "blocks.3.up.weight",
        "blocks.4.up.weight",
        "blocks.5.up.weight",
    ]


def test_decays_that_differ_in_the_seventh_digit_are_not_folded_together() -> None:
    """A line shows one decay, so all its rows must have it."""
    ordered = [td.rule("blocks.1.up.weight", td.decoupled(0.10000001)), *td.STANDARD]
    shown = labels(td.plan(Deep(3), td.decoupled(0.1), rules=ordered).table(group=True))
    assert "blocks.*.up.weight  x2" in shown
    assert "blocks.1.up.weight" in shown


@pytest.mark.parametrize(
    ("model", "label"),
    [
        (nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(11))), "*.weight  x11"),
        (nn.ParameterList([torch.randn(2, 2) for _ in range(12)]), "*  x12"),
        (nn.ModuleDict({"experts": nn.ParameterList([torch.randn(2, 2) for _ in range(9)])}), "experts.*  x9"),
        (
            nn.ModuleDict({"l": nn.ModuleList(nn.ModuleList([nn.PReLU(), nn.PReLU()]) for _ in range(3))}),
            "l.*.*.weight  x6",
        ),
    ],
    ids=["first", "whole name", "last", "two in a row"],
)
def test_an_index_folds_wherever_it_stands(model: nn.Module, label: str) -> None:
    """At the start of a name, at its end (parameter lists), between, and twice in a row."""
    assert labels(td.plan(model, 0.1, rules=[]).table(group=True)) == [label]


def test_digits_inside_a_word_are_no_index() -> None:
    """conv1 and conv2 are two things."""
    model = nn.ModuleDict({"conv1": nn.Linear(2, 2, bias=False), "conv2": nn.Linear(2, 2, bias=False)})
    assert labels(td.plan(model, 0.1).table(group=True)) == ["conv1.weight", "conv2.weight"]


def test_small_plans_are_shown_whole_unless_asked() -> None:
    """Folding starts above 60 rows; `group=` decides otherwise."""
    small, large = td.plan(Deep(4), 0.1), td.plan(Deep(5), 0.1)
    assert (len(small), len(large)) == (51, 63)
    assert (len(small.table().lines), len(large.table().lines)) == (51, 15)
    assert (len(small.table(group=True).lines), len(large.table(group=False).lines)) == (15, 63)


def test_folding_a_hundred_thousand_rows_takes_no_time() -> None:
    """A table is for looking at, also of a very large model."""
    row = td.plan(nn.Linear(2, 2, bias=False), 0.1).rows[0]
    rows = tuple(dataclasses.replace(row, names=(f"blocks.{i}.weight",)) for i in range(100_000))
    start = time.perf_counter()
    assert len(fold(rows)) == 1
    # About half a second here; a quadratic fold would take an hour.
    assert time.perf_counter() - start < 20


# ── Summary ──


def test_the_summary_counts_parameters_and_elements() -> None:
    """How many decay, of how many, and what is frozen."""
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    model[2].requires_grad_(False)
    table = td.plan(model, 0.1).table()
    assert table.summary == "1 of 4 parameters decay: 12 of 21 elements (57.14 %); 2 frozen"
    assert table.to_text().splitlines()[-1] == table.summary


def test_a_plan_without_elements_has_a_summary() -> None:
    """Empty shards are parameters too, and no share of nothing is computed."""
    model = nn.ParameterDict({"weight": torch.empty(0, 3)})
    assert td.plan(model, 0.1, rules=[]).table().summary == "1 of 1 parameters decay: 0 of 0 elements (0 %)"


def test_folding_does_not_change_the_summary() -> None:
    """It counts parameters, not lines."""
    plan = td.plan(Deep(10), 0.1)
    assert plan.table(group=True).summary == plan.table(group=False).summary


# ── On a terminal ──


def test_text_is_plain_unless_color_is_asked_for() -> None:
    """A log file gets no escape sequences; a terminal gets colors for who decays and who is spared."""
    table = td.plan(Odd(), 0.1).table()
    assert "\x1b" not in table.to_text()
    colored = table.to_text(color=True)
    for code in ("\x1b[32m", "\x1b[36m", "\x1b[33m"):
        assert code in colored


@pytest.mark.parametrize("width", [30, 80, 200])
def test_the_table_keeps_to_its_width(width: int) -> None:
    """Long names wrap; nothing is cut off, so no name is lost."""
    plan = td.plan(Deep(2), td.decoupled(0.1))
    text = plan.table().to_text(width=width)
    assert all(len(line) <= width for line in text.splitlines()[:-1])
    if width == 200:
        assert all(row.name in text for row in plan.rows)


def test_hostile_names_are_shown_as_they_are() -> None:
    """Markup, links, emoji codes and HTML in a module's name are text; control characters are escaped."""
    plan = td.plan(hostile_model(), 0.1)
    for text in (plan.table().to_text(width=300), str(plan.table()), plan.table().to_text(width=300, color=True)):
        for name in ("[red]x[/red]", "[/]", "<script>", ":smile:", "größe", "権重", "[link=https://example]"):
            assert name in text
        assert not set(text) & {"\x07", "\x08", "\t", "\u202e"}
        assert "\x1b[31m" not in text
    plain = plan.table().to_text(width=300)
    assert "\\x1b[31mred" in plain
    assert "two\\nlines.weight" in plain
    assert len([line for line in plain.splitlines() if ".weight " in line or ".bias " in line]) == 2 * len(HOSTILE)


def test_rich_prints_it_as_one_of_its_own() -> None:
    """`rich.print(plan.table())` is the table, at the console's own width."""
    console = Console(width=300, record=True, file=io.StringIO())
    plan = td.plan(hostile_model(), 0.1)
    console.print(plan.table())
    assert "[red]x[/red].weight" in console.export_text()


def test_printing_a_table_prints_it() -> None:
    """At a prompt the table shows itself."""
    table = td.plan(nn.Linear(2, 2), 0.1).table()
    assert repr(table) == str(table) == table.to_text()


# ── In a notebook ──


class Cells(html.parser.HTMLParser):
    """The tags of a page, and the text of its cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells and self.tags[-1] == "td":
            self.cells[-1] += data


def read(page: str) -> Cells:
    cells = Cells()
    cells.feed(page)
    return cells


def test_html_has_a_cell_for_everything_and_no_tag_of_a_name() -> None:
    """Names, reasons and options are escaped: a notebook shows them and runs nothing."""
    ordered = [td.rule("größe.weight", 0.1, note="<img src=x onerror=alert(1)>"), *td.STANDARD]
    plan = td.plan(hostile_model(), 0.1, rules=ordered)
    page = plan._repr_html_()
    found = read(page)
    assert set(found.tags) == {"div", "table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert len(found.cells) == 5 * len(plan)
    assert found.cells[::5] == [cell for line in plan.table().lines for cell in line.cells[:1]]
    assert "<script>alert(1)</script>.weight" in found.cells
    assert "\x1b" not in page


def test_an_unescaped_name_would_be_seen() -> None:
    """The check above can fail: the raw page of such a name has a tag too many."""
    assert "script" in read("<table><td><script>alert(1)</script></td></table>").tags


def test_a_notebook_gets_the_same_lines_as_a_terminal() -> None:
    """Folded where the terminal folds."""
    plan = td.plan(Deep(20), 0.1)
    assert plan._repr_html_() == plan.table()._repr_html_()
    assert len(read(plan._repr_html_()).cells) == 5 * len(plan.table().lines)


def test_options_and_kinds_are_shown() -> None:
    """What goes to the group beside the decay, and what sort of weight it is."""
    plan = td.plan(nn.LSTM(2, 2), 0.1, rules=[td.rule("weight_hh_l0", lr=0.5), *td.STANDARD])
    text = plan.table().to_text(width=200)
    assert "lr=0.5" in text
    assert "weight (recurrent)" in text


def test_a_scalar_has_a_shape() -> None:
    """An empty cell would look like a mistake."""
    model = nn.Module()
    model.scale = nn.Parameter(torch.tensor(1.0))
    assert "scalar" in td.plan(model, 0.1, rules=[]).table().lines[0].cells
