"""Files are put in place all together or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import torchdecay as td
from reports import samples, sweep_samples
from torchdecay.errors import TaskError
from torchdecay.reports.drawing.files import place, place_file

pytestmark = pytest.mark.long


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_gets_exactly_the_files(tmp_path: Path) -> None:
    """Parents are made, nothing temporary is left, and the page's path comes back."""
    page = place(tmp_path / "a" / "b", {"x/y.txt": "text", "index.html": "page", "z.bin": b"\x00"}, last="index.html")
    assert page == tmp_path / "a" / "b" / "index.html"
    assert tree(tmp_path) == {"a/b/x/y.txt": b"text", "a/b/index.html": b"page", "a/b/z.bin": b"\x00"}
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"x", "index.html", "z.bin"}


def test_others_files_in_the_folder_stay(tmp_path: Path) -> None:
    """Results may be written beside a user's own files."""
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.svg").write_text("mine")
    place(tmp_path, {"figures/ours.svg": "new", "index.html": "new"}, last="index.html")
    place(tmp_path, {"figures/ours.svg": "newer", "index.html": "newer"}, last="index.html")
    assert tree(tmp_path) == {
        "thesis.tex": b"mine",
        "figures/mine.svg": b"mine",
        "figures/ours.svg": b"newer",
        "index.html": b"newer",
    }


@pytest.mark.parametrize("fail_at", range(1, 9))
def test_a_failure_at_any_move_leaves_earlier_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    """A disk that fails in the middle leaves the old page with its old figures, not a mixture."""
    old = {"figures/a.svg": "old", "results.json": "old", "index.html": "old"}
    place(tmp_path, old, last="index.html")
    before, count = tree(tmp_path), 0
    replace = os.replace

    def failing(source: object, target: object) -> None:
        nonlocal count
        count += 1
        if count == fail_at:
            raise OSError(5, "Input/output error")
        replace(source, target)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "replace", failing)
    new = {"figures/a.svg": "new", "figures/b.svg": "new", "results.json": "new", "index.html": "new"}
    if fail_at > 7:  # Four files, three of which are moved aside first: seven moves.
        place(tmp_path, new, last="index.html")
        assert set(tree(tmp_path).values()) == {b"new"}
        return
    with pytest.raises(TaskError, match=r"(?s)Input/output error.*Nothing there was changed"):
        place(tmp_path, new, last="index.html")
    monkeypatch.undo()
    assert tree(tmp_path) == before
    assert not list(tmp_path.glob(".torchdecay-*"))


def test_interruption_while_moving_leaves_earlier_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at the worst moment is no exception to all or nothing."""
    place(tmp_path, {"a": "old", "index.html": "old"}, last="index.html")
    replace, count = os.replace, 0

    def interrupted(source: object, target: object) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        replace(source, target)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        place(tmp_path, {"a": "new", "index.html": "new"}, last="index.html")
    assert tree(tmp_path) == {"a": b"old", "index.html": b"old"}


def test_the_page_appears_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds the page finds its figures."""
    moved = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moved.append(Path(b).name), replace(a, b)))
    place(tmp_path, {"index.html": "x", "a.svg": "x", "b.json": "x"}, last="index.html")
    assert moved[-1] == "index.html"


@pytest.mark.parametrize("where", ["a file", "below a file", "/proc/1/nope"])
def test_a_folder_that_can_not_be_written_is_said_plainly(tmp_path: Path, where: str) -> None:
    """What, why, and what to do, instead of a traceback; nothing is left behind."""
    (tmp_path / "file").write_text("mine")
    folder = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "x"}.get(where, Path(where))
    with pytest.raises(TaskError, match=r"(?s)can't be written.*Nothing there was changed.*Name a folder"):
        place(folder, {"index.html": "x"}, last="index.html")
    assert tree(tmp_path) == {"file": b"mine"}


def test_a_folder_in_the_way_of_a_file_is_left(tmp_path: Path) -> None:
    """A folder called index.html is the user's, and is not replaced."""
    (tmp_path / "index.html").mkdir()
    (tmp_path / "index.html" / "mine").write_text("mine")
    with pytest.raises(TaskError, match="in the way"):
        place(tmp_path, {"a.svg": "x", "index.html": "x"}, last="index.html")
    assert tree(tmp_path) == {"index.html/mine": b"mine"}


def test_folders_made_for_nothing_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure leaves no empty folders behind."""

    def failing(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(TaskError, match="No space left"):
        place(tmp_path / "a" / "b", {"x/y": "z", "index.html": "x"}, last="index.html")
    assert list(tmp_path.iterdir()) == []


PAGE = samples.comparison(("none",), seeds=1)
MINE = ("index.html", "results.json", "figures/train-loss.png")


@pytest.mark.parametrize("mine", MINE)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_stands_in_the_folder_is_kept_and_the_page_goes_beside_it(
    tmp_path: Path, mine: str, overwrite: bool
) -> None:
    """A user's page, numbers or figure of a name that ours has too, in a project that results are written into."""
    project = tmp_path / "project"
    (project / "figures").mkdir(parents=True)
    (project / mine).write_text("mine")
    (project / "figures" / "line-9.svg").write_text("mine")
    before = tree(project)
    page = td.report(PAGE, project, overwrite=overwrite)
    assert page == tmp_path / "project-2" / "index.html"
    assert tree(project) == before
    assert td.report(samples.noise(), project) == tmp_path / "project-3" / "index.html"
    assert td.report(PAGE, project) == page  # where the same stands already, nothing is lost


def test_the_folder_that_one_stands_in_gets_a_folder_for_the_second_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dot has no name that a number could be put behind, and beside it is somebody else's place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "index.html").write_text("mine")
    assert td.report(PAGE, ".") == Path("torchdecay-2/index.html")
    assert (tmp_path / "index.html").read_text() == "mine"


def test_results_of_an_hour_are_not_lost_to_those_of_a_second(tmp_path: Path) -> None:
    """The same command twice keeps both; with overwrite the second stands alone."""
    first = td.report(samples.comparison(), tmp_path / "a")
    before = tree(first.parent)
    assert td.report(PAGE, tmp_path / "a") == tmp_path / "a-2" / "index.html"
    assert tree(first.parent) == before
    assert td.report(PAGE, tmp_path / "a", overwrite=True) == first
    assert set(tree(first.parent)) == set(tree(tmp_path / "a-2")) != set(before)


def test_a_page_by_name_keeps_the_file_of_numbers_of_that_name(tmp_path: Path) -> None:
    """`report results.json --out houses.html` beside a user's houses.json, or beside a plan that was saved there."""
    for name, text in (("houses", '{"rooms": 3}'), ("plan", td.plan(torch.nn.Linear(2, 2), 0.1).to_json())):
        (tmp_path / f"{name}.json").write_text(text)
        assert td.report(PAGE, tmp_path / f"{name}.html", overwrite=True) == tmp_path / f"{name}-2.html"
        assert (tmp_path / f"{name}.json").read_text() == text


def test_a_page_of_another_kind_is_not_replaced(tmp_path: Path) -> None:
    """A sweep whose folder is that of a comparison: the comparison's numbers are not a sweep's to take."""
    td.report(PAGE, tmp_path / "a.html")
    before = tree(tmp_path)
    assert td.report(sweep_samples.sweep(seeds=1), tmp_path / "a.html", overwrite=True) == tmp_path / "a-2.html"
    assert {name: text for name, text in tree(tmp_path).items() if name in before} == before


@pytest.mark.parametrize("path", ["a", "a.html"])
def test_overwriting_takes_the_path_that_is_named_and_none_beside_it(tmp_path: Path, path: str) -> None:
    """Where a user's file stands, an earlier page has gone beside it; the next one goes beside both."""
    mine = tmp_path / (path if path.endswith("html") else f"{path}/index.html")
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    second = td.report(samples.comparison(), tmp_path / path)
    before = tree(tmp_path)
    assert "-3" in str(td.report(PAGE, tmp_path / path, overwrite=True).relative_to(tmp_path))
    assert "-2" in str(second) and {name: text for name, text in tree(tmp_path).items() if name in before} == before


def test_only_figures_that_the_old_page_names_go_with_it(tmp_path: Path) -> None:
    """A figure of this package that a user put there stays, though it bears the mark."""
    td.report(samples.comparison(), tmp_path)
    own = td.figure(sweep_samples.sweep(), tmp_path / "figures" / "own.svg")
    td.report(PAGE, tmp_path, overwrite=True)
    assert own.exists() and not (tmp_path / "figures" / "test-score.svg").with_name("line-2.svg").exists()


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_picture_is_kept_too(tmp_path: Path, ending: str) -> None:
    """One of the user's whatever is asked for, and ours unless overwriting is."""
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"mine")
    assert td.figure(PAGE, path, overwrite=True) == tmp_path / f"a-2.{ending}"
    assert path.read_bytes() == b"mine"
    other = samples.comparison()
    assert td.figure(other, tmp_path / f"a-2.{ending}") == tmp_path / f"a-2-2.{ending}"
    assert td.figure(other, tmp_path / f"a-2.{ending}", overwrite=True) == tmp_path / f"a-2.{ending}"


def test_a_link_to_nowhere_and_a_folder_are_in_the_way_too(tmp_path: Path) -> None:
    """Neither a link nor a folder is ours, whatever it is called."""
    (tmp_path / "a.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b.txt").mkdir()
    assert place_file(tmp_path / "a.txt", "x", overwrite=True) == tmp_path / "a-2.txt"
    assert place_file(tmp_path / "b.txt", "x", overwrite=True) == tmp_path / "b-2.txt"
