"""The page as a file: what it says, what it keeps, what it never contains."""

from __future__ import annotations

import html
import itertools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import torchdecay as td
from reports import samples
from torchdecay.errors import TaskError
from torchdecay.lab.comparisons.comparison import Comparison
from torchdecay.reports.article import Table, slug
from torchdecay.reports.comparison.page import article_of, page_of
from torchdecay.reports.document import render, write
from torchdecay.reports.drawing.svg import inline_svg
from torchdecay.reports.example import demo_page

pytestmark = pytest.mark.long


class Reader(HTMLParser):
    """Collects tags, attributes and text; complains about tags that do not nest."""

    VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def headings(reader: Reader) -> list[int]:
    return [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h[1-6]", tag)]


def addresses(reader: Reader) -> Iterator[str]:
    for tag, attributes in reader.tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            if attributes.get(name) and (tag, name) != ("a", "download"):
                yield str(attributes[name])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return td.report(samples.comparison(), tmp_path_factory.mktemp("page"))


def test_a_folder_gets_page_figures_and_numbers(page: Path) -> None:
    """Everything that the page shows is there to share: each figure twice, and every number."""
    folder = page.parent
    assert page.name == "index.html"
    stems = {path.stem for path in (folder / "figures").iterdir()}
    assert stems >= {"train-loss", "test-loss", "test-score", "gap-loss", "gap-score", "weight-norm", "gradient-norm"}
    assert {"line-0", "line-1", "line-2", "planned-0", "planned-1"} <= stems
    for stem in stems:
        assert (folder / "figures" / f"{stem}.svg").stat().st_size > 1000
        assert (folder / "figures" / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
    assert Comparison.from_json((folder / "results.json").read_text(encoding="utf-8")) == samples.comparison()


def test_a_page_by_name_keeps_its_things_under_that_name(tmp_path: Path) -> None:
    """Two pages in one folder do not overwrite each other's figures; a page by name keeps its own."""
    made = samples.comparison(("none", "decoupled:1"), seeds=1)
    assert td.report(made, tmp_path / "one.html") == tmp_path / "one.html"
    td.report(made, tmp_path / "two.html")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}{end}" for name in ("one", "two") for end in (".html", ".json", "-figures")
    }


def test_the_page_is_self_contained(page: Path) -> None:
    """Nothing is fetched: every address is inside the page, and scripts are bound to one hash."""
    reader = read(page)
    assert [address for address in addresses(reader) if not address.startswith(("#", "data:"))] == []
    text = page.read_text(encoding="utf-8")
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)
    policy = next(a["content"] for tag, a in reader.tags if tag == "meta" and a.get("http-equiv"))
    assert "default-src 'none'" in str(policy)


def test_every_link_on_the_page_leads_somewhere(page: Path) -> None:
    """Ids are unique, and each #link has its target."""
    reader = read(page)
    ids = [attributes["id"] for _, attributes in reader.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert {address[1:] for address in addresses(reader) if address.startswith("#")} <= {*map(str, ids)}
    assert all(attributes["aria-labelledby"] in ids for _, attributes in reader.tags if "aria-labelledby" in attributes)


def test_a_screen_reader_gets_headings_names_and_tables(page: Path) -> None:
    """One h1, no level skipped, every chart named by its finding, every table with header cells."""
    reader = read(page)
    levels = headings(reader)
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    charts = [attributes for tag, attributes in reader.tags if tag == "svg" and attributes.get("role") == "img"]
    assert len(charts) == 13
    assert all(len(str(attributes["aria-label"])) > 60 for attributes in charts)
    assert [attributes for tag, attributes in reader.tags if tag == "html"] == [{"lang": "en"}]
    assert ("a", {"class": "skip", "href": "#main"}) in reader.tags


def test_the_page_says_what_the_lab_found(page: Path) -> None:
    """Headline, verdict, numbers with spread, plan, command and versions all stand on the page."""
    words = " ".join(" ".join(read(page).words).split())
    made = samples.comparison()
    assert "With decoupled:0.1, test accuracy ended at 0.830; without decay, at 0.710." in words
    for line in td.verdict(made).splitlines():
        assert " ".join(line.split()) in words
    assert "0.710 ± 0.010" in words
    assert "no rule spares role weight" in words
    assert made.command in words
    assert "2.13.0" in words
    assert "2030-01-02 03:04 UTC" in words


def test_M5_pictures_are_all_there(page: Path) -> None:
    """M5.2, M5.4 and M5.5: the line through the solution, both curves, both norms."""
    words = read(page).words
    for title in ("Along the line: coupled:0.1", "Training loss", "Test loss", "Weight norm", "Gradient norm"):
        assert title in words


def test_noise_is_called_noise(tmp_path: Path) -> None:
    """For random labels the page claims nothing but what decay does to confidence."""
    words = " ".join(read(td.report(samples.noise(), tmp_path)).words)
    assert "Nothing can be learned here" in words
    assert "The labels are noise" in words
    assert "below a test loss of 0.693" in words


def test_an_interrupted_comparison_has_a_page_that_says_what_is_missing(tmp_path: Path) -> None:
    """Ctrl-C keeps the finished runs, and nobody takes five of nine for all."""
    words = " ".join(" ".join(read(td.report(samples.stopped(), tmp_path)).words).split())
    assert "Stopped before all runs were done. 5 runs of 9 finished." in words
    assert "Missing: none (seed 2); coupled:0.1 (seed 2); decoupled:0.1 (seeds 1 and 2)." in words


def test_nothing_finished_still_has_a_page(tmp_path: Path) -> None:
    """Stopped before the first run was done: the page says so and shows the plan."""
    page = td.report(replace(samples.comparison(), runs=(), interrupted=True), tmp_path)
    reader = read(page)
    assert "No run was finished." in reader.words
    assert not (tmp_path / "figures").exists()
    assert headings(reader)[0] == 1


def test_a_diverged_run_is_on_the_page(tmp_path: Path) -> None:
    """Infinities and NaN are drawn as far as they are numbers, then named."""
    words = " ".join(read(td.report(samples.diverged(), tmp_path)).words)
    assert "diverged in 1 of 3 seeds" in words
    assert "not a number" in words
    kept = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert "Infinity" in kept["runs"][6]["train_loss"]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """Tags, quotes, template marks and control characters in any name are shown, never obeyed."""
    page = td.report(samples.nasty(), tmp_path)
    reader = read(page)
    assert len([tag for tag, _ in reader.tags if tag == "script"]) == 1
    assert not [tag for tag, _ in reader.tags if tag == "img"]
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    words = " ".join(reader.words)
    assert samples.NASTY[0] in words
    assert "{{ 7 * 7 }}" in words
    text = page.read_text(encoding="utf-8")
    assert not re.findall("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text)
    assert html.escape(samples.NASTY[0], quote=False) in text or "&lt;script&gt;" in text


def test_a_name_without_letters_still_makes_an_id(tmp_path: Path) -> None:
    """A task called 日本 has a page like any other."""
    assert (slug("日本"), slug("My Task!"), slug("a/../b")) == ("task", "my-task", "a-b")
    read(td.report(replace(samples.comparison(("none",), seeds=1), task="日本"), tmp_path))


def test_failure_leaves_the_earlier_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chart that can't be drawn costs the new page, not the old one."""
    made = samples.comparison(("none",), seeds=1)
    page = td.report(made, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def failing(*_: object, **__: object) -> bytes:
        raise RuntimeError("no ink")

    monkeypatch.setattr("torchdecay.reports.document.png_file", failing)
    with pytest.raises(RuntimeError, match="no ink"):
        td.report(replace(made, title="Another"), tmp_path, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert "Another" not in page.read_text(encoding="utf-8")


def test_figures_of_an_earlier_page_do_not_stay(tmp_path: Path) -> None:
    """A page of two decays without a score is not mixed with the figures of three with one; other files stay."""
    td.report(samples.comparison(), tmp_path)
    (tmp_path / "figures" / "mine.svg").write_text("mine")
    td.report(samples.comparison(("none", "decoupled:1"), seeds=1, score=False), tmp_path, overwrite=True)
    names = {path.name for path in (tmp_path / "figures").glob("*.svg")}
    assert names == {
        "mine.svg", "gap-loss.svg", "train-loss.svg", "test-loss.svg", "weight-norm.svg", "gradient-norm.svg",
        "line-0.svg", "line-1.svg", "planned-0.svg",
    }  # fmt: skip


def test_the_same_comparison_gives_the_same_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page made again from results.json is the page, byte for byte; its charts are really drawn again."""
    first = td.report(samples.comparison(), tmp_path / "a")
    monkeypatch.setattr("torchdecay.reports.document.inline_svg", inline_svg)
    kept = Comparison.from_json((tmp_path / "a" / "results.json").read_text(encoding="utf-8"))
    assert td.report(kept, tmp_path / "b").read_bytes() == first.read_bytes()


def test_many_parameters_and_many_sentences_are_folded() -> None:
    """A model of thousands of tensors and a dozen decays stays a page that can be read."""
    made = samples.comparison(("none", *(f"decoupled:1e-{i}" for i in range(12))))
    arranged = article_of(replace(made, plans={"none": samples.plan("none", count=1000)}))
    (fold,) = arranged.sections[-1].folds
    assert (len(fold.table.rows), fold.left_out) == (200, 800)
    assert len(arranged.verdict) > 8


def test_the_final_table_and_the_csv_hold_every_run() -> None:
    """Mean ± spread for the eye, every run for a spreadsheet, which no label can make run a formula."""
    made = samples.comparison(("none", '=HYPERLINK("x")'), seeds=2)
    (finals,) = [section for section in article_of(made).sections if section.id == "finals"]
    assert finals.table is not None and finals.csv is not None
    assert finals.table.head[:4] == ("Decay", "Seeds", "Training loss", "Test loss")
    assert finals.table.rows[0][:4] == ("none", "2", "0.2050 ± 0.0071", "3.0050 ± 0.0071")
    assert finals.csv[1].startswith("data:text/csv")
    assert finals.csv[1].count("%0A") == 5
    assert "%27%3DHYPERLINK" in finals.csv[1]


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    """The message says what to do; see test_files for what stays untouched."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TaskError, match="can't be written"):
        td.report(samples.comparison(("none",), seeds=1), tmp_path / "file")


def test_the_demo_is_one_page_of_example_and_comparisons(tmp_path: Path) -> None:
    """M3 to the printed digit, then each training, each with its own ids and files."""
    from torchdecay.lab import worked_example

    noise, toy = replace(samples.noise(), task="noise"), samples.comparison()
    page = write(demo_page(worked_example(), [noise, toy]), tmp_path)
    reader = read(page)
    words = {word.strip() for word in reader.words}
    assert {"0.4386", "−0.1300", "0.2489", "0.2050", "−0.0254", "0.1938"} <= words
    assert "d(loss)/dw" in words
    assert "d(penalty)/dw = 1 · w" in words
    levels = headings(reader)
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in reader.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert (tmp_path / "figures" / "noise-test-loss.svg").exists()
    assert (tmp_path / "figures" / "toy-test-score.png").exists()
    assert Comparison.from_json((tmp_path / "toy.json").read_text(encoding="utf-8")) == toy
    assert json.loads((tmp_path / "example.json").read_text(encoding="utf-8"))["lr"] == 0.1


def test_columns_of_words_begin_at_the_left(tmp_path: Path) -> None:
    """Long ones are broken, so that a table of reasons stays on the page; numbers stand at the right."""
    rows = (("a", "1,000", "decoupled(1)", "1.weight", "0.3 ± 0.1"), ("b", "≤ 2e-05", "", "2.bias", "never"))
    assert Table(("Group", "Weights", "Decay", "Why", "Loss"), rows).words == (True, False, True, True, False)
    assert Table(("a",), ()).words == ()
    model = torch.nn.Linear(4, 2)
    found = td.audit(torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1), model=model)
    text = td.report(found, tmp_path).read_text(encoding="utf-8")
    assert '<th scope="col" class="words">Why</th>' in text and '<td class="words" data-head="Why"' in text


def test_words_from_right_to_left_stand_apart(tmp_path: Path) -> None:
    """Without it the name and the number behind it change places on the screen; an attribute holds no tag."""
    labels = ("none", "שלום עולם")
    text = td.report(samples.comparison(labels), tmp_path).read_text(encoding="utf-8")
    assert "for <bdi>שלום עולם</bdi>" in text and "<bdi>שלום עולם</bdi> (" in text
    assert not re.findall('="[^"]*<bdi>', text)
    assert "<bdi>" not in text.partition("</head>")[0]


def test_two_comparisons_of_one_name_are_refused(tmp_path: Path) -> None:
    """The second would overwrite the files of the first."""
    from torchdecay.lab import worked_example

    with pytest.raises(TaskError, match="Give each task a name of its own"):
        demo_page(worked_example(), [samples.comparison(), samples.comparison()])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.svg", "x.png"])
@pytest.mark.parametrize("dark", [False, True])
def test_the_picture_names_its_lines(tmp_path: Path, name: str, dark: bool) -> None:
    """The picture for a README says the finding, and each line's name and number, without a page around it."""
    path = td.figure(samples.comparison(), tmp_path / name, dark=dark)
    content = path.read_bytes()
    if name.endswith("png"):
        assert int.from_bytes(content[16:20], "big") > 1500
        return
    text = content.decode("utf-8")
    for words in ("With decoupled:0.1, test accuracy ended at 0.830", "Training accuracy", "0.830 ± 0.010", ">none<"):
        assert words in text


def test_the_picture_keeps_names_apart(tmp_path: Path) -> None:
    """Twelve lines that end at the same place have twelve readable names."""
    made = samples.comparison(("none", *(f"decoupled:1e-{i}" for i in range(11))), seeds=1)
    same = replace(made, runs=tuple(replace(run, test_score=made.runs[0].test_score) for run in made.runs))
    text = td.figure(same, tmp_path / "x.svg").read_text(encoding="utf-8")
    rows = [float(y) for y, word in re.findall(r'y="([\d.]+)"[^>]*>([^<]*)</text>', text) if "decoupled:1e-" in word]
    rows = sorted(rows)[-12:]
    assert min(b - a for a, b in itertools.pairwise(rows)) > 10
    assert math.isfinite(sum(rows))


@pytest.mark.parametrize(("made", "name"), [("x", "x.jpg"), ("nothing", "x.svg")])
def test_a_picture_that_can_not_be_made_is_refused(tmp_path: Path, made: str, name: str) -> None:
    """Another ending, or no run at all: said plainly, nothing written."""
    value = samples.comparison() if made == "x" else replace(samples.comparison(), runs=())
    with pytest.raises(TaskError, match=r"can't be written as|no finished run"):
        td.figure(value, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_pages_stay_small() -> None:
    """As docs/cli.md says: twelve decays, five seeds, a point at each of 221 steps; and the script in each page."""
    labels = ("none", *(f"decoupled:{10**i:g}" for i in range(-5, 6)))
    text = render(page_of(samples.comparison(labels, seeds=5, steps=221)))
    assert len(text.encode()) < 700_000
    script = text.partition("<script>")[2].partition("</script>")[0]
    assert 20_000 < len(script.encode()) < 26_500
