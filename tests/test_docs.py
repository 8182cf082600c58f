"""The docs are true: every block of code runs, and prints what the page shows."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from docs_pages import (
    COLUMNS,
    NEEDS,
    PAGES,
    ROOT,
    Block,
    alike,
    compare,
    read_blocks,
    read_commands,
    run_alone,
    run_page,
    shows,
    with_outputs,
)

pytestmark = pytest.mark.docs


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    [pytest.param(one, marks=[pytest.mark.peers] if NEEDS.search(one.read_text("utf-8")) else []) for one in PAGES],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader copies from a page works, in the order of the page, and prints what the page shows."""
    for library in " ".join(NEEDS.findall(page.read_text("utf-8"))).split():
        pytest.importorskip(library, reason=f"{library} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", COLUMNS)
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    for one in run_page(page, tmp_path):
        assert one.true, f"{page.name}:{one.block.line} prints what the page doesn't show (make outputs):\n{one.text}"


def test_a_command_of_the_readme_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Loading, arguments, exit code and streams are a terminal's; all others but `run` are run in this process."""
    commands = [c for block in read_blocks((ROOT / "README.md").read_text()) for c in read_commands(block.text)]
    command = next(one for one in commands if re.match("torchdecay (?!run)", one.line))
    done = run_alone(shlex.split(command.line, comments=True)[1:], tmp_path)
    compare(command, done.returncode, done.stdout)
    assert done.stdout


def test_a_seeded_error_in_a_block_is_reported_at_its_line(tmp_path: Path) -> None:
    """A block that fails is found on its page without counting lines."""
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```python\nvalue = 1\n```\n\nand then\n\n```python\nassert value == 2\n```\n")
    with pytest.raises(AssertionError) as caught:
        run_page(page, tmp_path)
    assert caught.traceback[-1].lineno + 1 == 10


def test_a_seeded_unknown_language_is_refused(tmp_path: Path) -> None:
    """No block escapes by calling itself `py` or `bash`."""
    page = tmp_path / "page.md"
    page.write_text("```bash\ntorchdecay --hlep\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:2"):
        run_page(page, tmp_path)


def test_blocks_inside_lists_and_tabs_are_read() -> None:
    """An indented block runs like any other."""
    assert read_blocks('=== "tab"\n\n    ```python\n    if x:\n        y\n    ```\n') == [
        Block("python", "if x:\n    y", 4)
    ]


def test_a_titled_block_is_a_file_for_the_commands_after_it(tmp_path: Path) -> None:
    """A page that shows a file and then a command that reads it is run as a reader would."""
    page = tmp_path / "page.md"
    page.write_text('```python title="a.py"\nraise SystemExit\n```\n')
    run_page(page, tmp_path)
    assert (tmp_path / "a.py").read_text() == "raise SystemExit\n"


def test_console_blocks_say_what_is_run_shown_and_owed() -> None:
    """The exit code that a page promises is the one a reader sees with `echo $?`."""
    one, two = read_commands("$ torchdecay a \\\n    --b\nout 1\n\n$ torchdecay c\nbad\n$ echo $?\n2\n")
    assert (one.line, one.shown, one.code) == ("torchdecay a --b", ["out 1"], 0)
    assert (two.line, two.shown, two.code) == ("torchdecay c", ["bad"], 2)


def test_output_that_a_page_lacks_or_shows_wrongly_is_seen_and_written(tmp_path: Path) -> None:
    """What code prints stands below it, line by line, in the indentation of its block."""
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nprint(1)\n```\n\n"
        "- list\n\n    ```python\n    print(2.5)\n    ```\n\n    ```output\n    ...5\n    ```\n"
    )
    lacking, right = run_page(page, tmp_path)
    assert (lacking.true, right.true) == (False, True)
    page.write_text(with_outputs(page.read_text(), [lacking, right]).replace("...5", "2.4"))
    assert page.read_text().startswith("```python\nprint(1)\n```\n\n```output\n1\n```\n\n- list")
    right, wrong = run_page(page, tmp_path)
    assert (right.true, wrong.true) == (True, False)
    assert with_outputs(page.read_text(), [right, wrong]).endswith("\n\n    ```output\n    2.5\n    ```\n")


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("norm  9.40 -> 1,000", "norm 9.41 -> 1,001", True),
        ("norm 9.40", "norm 9.6", False),
        ("norm 9.40", "bias 9.40", False),
        ("took ... s", "took 3 s", True),
        ("1e-3", "1e-4", False),
        ("1 2", "1", False),
    ],
)
def test_lines_are_the_same_by_words_and_by_numbers(shown: str, printed: str, same: bool) -> None:
    """Words must be as shown; the last digits of what was trained differ between processors."""
    assert alike(shown, printed) is same


@pytest.mark.parametrize(
    ("shown", "missing"),
    [(["a 1", "c"], ""), (["a ...", "c"], ""), (["c", "a 1"], "a 1"), (["a 2"], "a 2"), (["a.1"], "a.1")],
)
def test_shown_output_is_compared_line_by_line(shown: list[str], missing: str) -> None:
    """A page that shows output which is no longer printed fails."""
    assert shows(shown, "a  1\nb\nc\n") == missing
