"""`torchdecay sweep`: what it prints and writes, how it goes on, and how it fails."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import torchdecay as td
from calling import torchdecay
from torchdecay.cli.progress import Bar
from torchdecay.lab.engines.runs import Progress
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.reports.drawing.files import place

pytestmark = pytest.mark.long

TASK = ["sweep", "sweeping:task", "--engine", "serial", "--seeds", "2"]
SHORT = [*TASK, "--value", "0.1", "--value", "1"]


def numbers_only(sweep: Sweep, path: Path, **_: object) -> Path:
    """The page without its charts, which take seconds to draw."""
    return place(path, {"index.html": sweep.title, "sweep.json": sweep.to_json()}, last="index.html")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[..., Result]:
    """Run `torchdecay` in an empty folder; an exception that is no exit fails the test."""
    if "page" not in request.node.name:
        monkeypatch.setattr("torchdecay.reports.report", numbers_only)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return torchdecay


def saved(folder: str) -> Sweep:
    return Sweep.from_json(Path(folder, "sweep.json").read_text())


def test_a_sweep_prints_a_table_and_a_verdict_and_keeps_every_number(call: Callable[..., Result]) -> None:
    """One line per value, the chosen one marked; the file repeats it and knows its command."""
    done = call(*SHORT, "--steps", "10")
    assert "> " in done.stdout and "Chosen: " in done.stdout and "half-life" in done.stdout
    assert "halves: none, seed 0: done (1 of 6 runs" in done.stderr and "best so far" in done.stderr
    made = saved("torchdecay-sweep-halves")
    assert made.command == "torchdecay " + " ".join([*SHORT, "--steps", "10"])
    assert made.num_steps == 10 and len(made.runs) == 6 and made.task_words == "sweeping:task --steps 10"
    assert td.verdict(made).splitlines()[0][:40] in done.stdout


def test_json_is_the_sweep(call: Callable[..., Result]) -> None:
    """Programs get everything that the file has, on stdout alone."""
    done = call(*SHORT, "--json", "--out", "o", "--rule", "one_se")
    data = json.loads(done.stdout)
    assert Sweep.from_json(done.stdout) == saved("o") and data["rule"] == "one_se"
    assert data["page"] == str(Path("o", "index.html")) and data["best"]["num_seeds"] == 2


def test_the_page_can_be_written_again(call: Callable[..., Result]) -> None:
    """`report` knows a sweep's file from a comparison's."""
    call(*SHORT, "--steps", "4", "--out", "o")
    assert call("report", "o", "--out", "again.html").stdout.startswith("Page: again.html")
    assert "halves" in Path("again.html").read_text()


@pytest.mark.long
def test_resume_goes_on_and_its_absence_is_asked_about(call: Callable[..., Result]) -> None:
    """The same command with --resume trains what is missing; without it nothing is silently reused."""
    call(*SHORT, "--store", "s.db", "--resume")
    assert "Say --resume" in call(*SHORT, "--store", "s.db", code=2).stderr
    more = call(*SHORT, "--value", "0.5", "--store", "s.db", "--resume")
    assert more.stderr.count(": done") == 2 and len(saved("torchdecay-sweep-halves").runs) == 8


def test_ctrl_c_keeps_everything(call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was finished is shown, written and in the store; exit code 1."""

    def stop(self: Bar, progress: Progress) -> None:
        if progress.runs_done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Bar, "__call__", stop)
    done = call(*SHORT, "--store", "s.db", code=1)
    assert "Stopped early, with 2 runs finished" in done.stdout
    assert saved("torchdecay-sweep-halves").interrupted
    monkeypatch.undo()


@pytest.mark.slow
@pytest.mark.integration
def test_a_real_interrupt_ends_workers_too(tmp_path: Path) -> None:
    """SIGINT to the whole group, as a terminal sends it: results, no traceback of any worker, nobody left."""
    tests = Path(__file__).parent
    words = ["sweep", "sweeping:task", "--engine", "process", "--workers", "1", "--seeds", "500", "--out", "o"]
    process = subprocess.Popen(
        [sys.executable, "-m", "torchdecay", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tests.parent / 'src'}{os.pathsep}{tests}"},
        # A shell starts what runs in its background deaf to interrupts, and children inherit that.
        preexec_fn=lambda: (os.setsid(), signal.signal(signal.SIGINT, signal.SIG_DFL)),
    )  # fmt: skip
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "seed 0: done" in first, first
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1 and "Stopped early" in out and "Traceback" not in err, err
    made = Sweep.from_json((tmp_path / "o" / "sweep.json").read_text())
    assert made.interrupted and 1 <= len(made.runs) < 3500
    deadline = time.monotonic() + 20
    while left := living(process.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def living(group: int) -> list[str]:
    """Commands of the processes of a group that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, of_group = (path / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                found.append((path / "cmdline").read_text())
    return found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "10", "--to", "0.1"], "reversed"),
        (["--from", "1", "--to", "1"], "empty"),
        (["--from", "-1"], "no positive number"),
        (["--points", "1"], "number of points is 1"),
        (["--form", "decupled"], 'Nearest: "decoupled"'),
        (["--search", "gird"], 'Nearest: "grid"'),
        (["--engine", "sreial"], 'Nearest: "serial"'),
        (["--engine", "ray", "--ray-address", "10.0.0.1"], "HOST:PORT"),
        (["--ray-gpus", "1"], "add --engine ray"),
        (["--rule", "bets"], "Rules: best, one_se"),
        (["--value", "-0.1"], "values"),
        (["--lr-scale", "0"], "lr_scales"),
        (["--resume"], "--store runs.db"),
        (["--store", "/dev/null"], "is no file"),
        (["--store", "missing/s.db"], "which is not there"),
        (["--group", "head"], "is not NAME=PATTERN"),
        (["--group", "a=0.*", "--group", "a=*"], "named twice"),
        (["--group", "a=7.*"], "matches no parameter"),
        (["--seeds", "x"], "neither a number"),
        (["--data", "a.csv"], "to the task csv"),
    ],
)  # fmt: skip
def test_wrong_use(call: Callable[..., Result], words: list[str], said: str) -> None:
    """Exit code 2, what is wrong in words, and no folder left behind."""
    assert said in call(*TASK, *words, code=2).stderr
    assert not list(Path().iterdir())


def test_a_failed_run_is_shown_and_the_exit_code_says_so(call: Callable[..., Result]) -> None:
    """A value too large for this learning rate fails alone."""
    done = call(*SHORT, "--value", "50", code=1)
    assert "FAILED decoupled(50), seed 0" in done.stdout and "Chosen: " in done.stdout
    assert "decoupled(50), seed 0: failed: " in done.stderr and "decoupled(50), seed 0: done" not in done.stderr


def test_where_every_run_diverged_the_exit_code_says_so(call: Callable[..., Result]) -> None:
    """A page of not-a-numbers is no success."""
    words = ["sweeping:lost_task", "--seeds", "1", "--out", "o"]
    done = call("sweep", *words, "--engine", "serial", "--value", "0.1", code=1)
    assert "nothing is chosen" in done.stdout
    done = call("compare", *words, "--decay", "none", "--decay", "decoupled:0.1", code=1)
    assert "seed 0: diverged (NaN or infinite)" in done.stderr and ": done" not in done.stderr


def test_groups_and_learning_rates(call: Callable[..., Result]) -> None:
    """A value for each group, and a map over learning rates, from the command line."""
    call(*SHORT, "--group", "body=0.*", "--group", "rest=*", "--out", "a", "--steps", "4")
    assert len(saved("a").points) == 5
    call(*SHORT, "--lr-scale", "0.5", "--lr-scale", "1", "--out", "b", "--steps", "4")
    assert {point.lr_scale for point in saved("b").points} == {0.5, 1.0}


def test_the_help_teaches(call: Callable[..., Result]) -> None:
    """Examples, searches, and what a store is for."""
    text = call("sweep", "--help").stdout
    assert "torchdecay sweep digits --seeds 3" in text and "halving" in text and "--resume goes on" in text
    assert "sweep" in call("--help").stdout
