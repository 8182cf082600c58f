"""`torchdecay sweep ... -- COMMAND`: how it is read, what it prints, and how wrong use is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from calling import torchdecay
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.reports.sweep.advice import next_command

pytestmark = pytest.mark.long
SCRIPT = (
    "import sys\nvalue, seed = float(sys.argv[1]), int(sys.argv[2])\n"
    "sys.exit('no such value') if value > 50 else None\n"
    "for e in range(3): print(f'loss={(value - 1) ** 2 + seed / 100}')"
)
COMMAND = ["--", sys.executable, "-S", "-E", "-c", SCRIPT, "{value}", "{seed}"]
HOW = ["sweep", "--metric", r"loss=(\S+)", "--minimize"]
VALUES = ["--value", "0.1", "--value", "1"]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[..., Result]:
    """Run `torchdecay` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    if "page" not in request.node.name:
        monkeypatch.setattr("torchdecay.reports.report", lambda result, path, **more: path)
    return torchdecay


def test_a_command_is_swept_and_gets_a_page(call: Callable[..., Result]) -> None:
    """The page shows the command and what failed with the end of its output; the runs stand beside it."""
    done = call(*HOW, *VALUES, "--value", "100", "--seeds", "3", "--out", "out", "--workers", "2", *COMMAND, code=1)
    assert "> 1" in done.stdout and "FAILED 100, seed 0: it ended with exit code 1" in done.stdout
    page = Path("out/index.html").read_text()
    assert "no such value" in page and "{value}" in page and "test rows" not in page
    made = Sweep.from_json(Path("out/sweep.json").read_text())
    assert made.metric == "loss" and {failure.traceback for failure in made.failures} == {"no such value"}
    assert Path("out/runs/1-seed-2/output.txt").read_text().startswith("loss=")


def test_a_store_goes_on_and_refuses_another_command(call: Callable[..., Result]) -> None:
    """The same command takes finished runs over; the next one to type keeps what stands behind --."""
    stored = [*HOW, *VALUES, "--seeds", "2", "--store", "s.db", "--json"]
    call(*stored, *COMMAND)
    call(*stored, "--resume", *COMMAND)
    assert len(list(Path("torchdecay-sweep-python/runs").iterdir())) == 6 or len(list(Path().glob("*/runs/*"))) == 6
    assert "holds 6 finished runs of this sweep already" in call(*stored, *COMMAND, code=2).stderr
    other = call(*stored, "--resume", *COMMAND, "--other", code=2)
    assert "but not this sweep" in other.stderr and "--other" in other.stderr
    found = Sweep.from_json(json.dumps(json.loads(call(*stored, "--resume", *COMMAND).stdout)))
    assert next_command(found).split(" -- ")[0].endswith("--seeds 5 --resume")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*HOW], "Missing TASK, or -- COMMAND"),
        (["sweep", "digits", *HOW[1:], *VALUES, *COMMAND], "'digits' stands before --"),
        (["sweep", "digits", *HOW[1:3]], "it is for a command behind --"),
        ([*HOW, *VALUES, "--steps", "3", *COMMAND], "it is for a task"),
        ([*HOW, *VALUES, "--lr-scale", "2", *COMMAND], "it is for a task"),
        ([*HOW, *VALUES, "--direction", *COMMAND], "it is for a task"),
        ([*HOW, *VALUES, "--group", "a=*", *COMMAND], "it is for a task"),
        ([*HOW, *VALUES, "--engine", "stacked", *COMMAND], "can't be one model"),
        ([*HOW, *VALUES, "--form", "l1", *COMMAND], "would be given to nobody"),
        ([*HOW, *VALUES, "--rungs", "2", *COMMAND], "add --search halving"),
        ([*HOW, *VALUES, "--rungs", "x", *COMMAND], "not numbers with commas"),
        ([*HOW, *VALUES, "--lr", "0.1", *COMMAND], "add --search halving"),
        ([*HOW, "--search", "halving", *COMMAND], "no range of values"),
        ([*HOW, *VALUES, "--"], "there is no command"),
        ([*HOW, *VALUES, "--", "no-such-command", "{value}"], "there is no command"),
        ([*HOW[:-1], *VALUES, *COMMAND], "add --minimize"),
        (["sweep", "--minimize", *VALUES, *COMMAND], "Nothing says where the metric is"),
        ([*HOW, "--metric-tag", "loss", *VALUES, *COMMAND], "More than one option"),
        (["sweep", "--minimize", "--metric-file", "m.json:loss", *VALUES, *COMMAND], "the same for every run"),
        (["sweep", "--minimize", "--metric-file", "m.json", *VALUES, *COMMAND], 'file is "m.json".'),
        (["sweep", "--minimize", "--metric", "loss", *VALUES, *COMMAND], "has no groups"),
        (["sweep", "--minimize", "--metric", "seeds=(a)(b)", *VALUES, *COMMAND], "the metric 'seeds=(a)(b)' has 2"),
        (["sweep", "--minimize", "--metric", "loss=.+", *VALUES, *COMMAND], r"parentheses, 'val_loss=(\S+)'"),
    ],
)
def test_wrong_use_is_exit_code_2(call: Callable[..., Result], words: list[str], said: str) -> None:
    """One message, before anything runs."""
    assert said in call(*words, code=2).stderr and not list(Path().glob("*/runs"))


def test_where_every_run_fails_that_is_said_first(call: Callable[..., Result]) -> None:
    """With the end of what the command printed."""
    words = [sys.executable, "-S", "-c", "print('loss=1'); 1 / (0 * {value})  # of any value"]
    said = call(*HOW, "--value", "6", "--value", "7", "--", *words, code=1).stdout
    first, then = said.strip().splitlines()[:2]
    assert first.startswith("Every run failed: it ended with exit code 1: ZeroDivisionError")
    assert then.startswith("The end of what ") and said.index("loss=1") > said.index(then)
    assert said.count("FAILED") == 1 and "seeds" not in said.split("FAILED")[0]


def test_words_behind_the_dashes_stay_as_they_are(call: Callable[..., Result]) -> None:
    """Negative numbers and options of ours among them."""
    code = "import sys; print(sys.argv[1:]); print('loss=1')"
    call(*HOW, "--value", "1", "--out", "out", "--", sys.executable, "-S", "-c", code, "-1", "--json", "--", "{value}")
    assert Path("out/runs/1/output.txt").read_text().startswith("['-1', '--json', '--', '1']")
