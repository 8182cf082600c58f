"""Scripts under `torchdecay run` do what they do without it: weights to the bit, output, exit code."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from torchdecay.cli import main
from torchdecay.observe.recorded.record import RunRecord

SCRIPTS = Path(__file__).parent / "scripts"
pytestmark = [pytest.mark.integration, pytest.mark.long]


def environment(**more: str) -> dict[str, str]:
    """As on a machine where nothing is set that changes how Python or torchdecay behave."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "PYTHONPATH" or not name.startswith(("PYTHON", "TORCHDECAY", "PYTEST"))
    }
    return {**kept, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **more}


def python(*words: str, cwd: Path, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd, input=stdin, capture_output=True, text=True, timeout=240, env=environment(**variables),
    )  # fmt: skip


def run(*words: str, cwd: Path, flags: tuple[str, ...] = (), **more: str) -> subprocess.CompletedProcess[str]:
    return python(*flags, "-m", "torchdecay", "run", *words, cwd=cwd, **more)


@functools.cache
def weights_alone(script: str, *args: str) -> str:
    """What a script prints by itself; in this process, where torch is imported already."""
    threads, argv, said = torch.get_num_threads(), sys.argv, io.StringIO()
    torch.set_num_threads(1)
    sys.argv = [script, *args]
    sys.path.insert(0, str(SCRIPTS))
    try:
        with torch.random.fork_rng(), contextlib.redirect_stdout(said):
            runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
        sys.argv = argv
        sys.path.remove(str(SCRIPTS))
    return weights_in(said.getvalue())


def weights_in(said: str) -> str:
    """The last line: before it some libraries print how long they took."""
    *_, last = said.splitlines()
    assert last.startswith("weights ")
    return last


def record(cwd: Path, name: str = "torchdecay-run") -> RunRecord:
    return RunRecord.load(cwd / name)


def test_a_plain_loop_ends_with_the_same_weights_and_a_page(tmp_path: Path) -> None:
    """The page, the plan, what was found, a forecast and the history of the run, and a word of each on stderr."""
    script = str(SCRIPTS / "plain.py")
    seen = run("--every", "10", "--steps", "25", script, cwd=tmp_path)
    assert (seen.returncode, seen.stdout) == (0, weights_alone("plain.py") + "\n")
    found = record(tmp_path)
    (about,), (one,) = found.summary.optimizers, found.seen
    assert (about.optimizer, about.model, about.steps, about.length) == (
        "AdamW",
        "Sequential",
        25,
        "25 steps, says --steps",
    )
    assert one.plan is not None and one.audit is not None and one.forecast is not None and one.history is not None
    assert [row.name for row in one.plan.rows][:2] == ["0.weight", "0.bias"]
    assert one.audit.codes == ("WD101",)
    assert one.forecast.num_steps == 25
    assert one.history.steps == (1, 10, 20, 25)
    assert found.summary.ended and found.summary.notes == ()
    page = (tmp_path / "torchdecay-run" / "index.html").read_text()
    for said in ("0.weight", "WD101", "Planned and realized", "25 steps of AdamW", script):
        assert said in page
    for said in ("AdamW trains Sequential", "WD101", "decay took", "torchdecay-run/index.html", "--apply"):
        assert said in seen.stderr


MODELS = {
    "nanogpt_like.py": ["AdamW GPT 6"],
    "gan.py": ["RMSprop Sequential 12", "Adam Sequential 6"],
    "compiled_amp.py": ["SGD Sequential 7"],
    "muon_adamw.py": ["Muon Sequential 5", "AdamW Sequential 5"],
    "workers.py": ["AdamW Linear 4"],
    "trainer.py": ["AdamW GPT2LMHeadModel 4"],
    "trainer.py lora": ["AdamW GPT2LMHeadModel 4"],
    "lightning_closure.py": ["AdamW Module 8"],
}
"""By script what its optimizers are, with the model and the steps of each."""
OF_LIBRARIES = {"trainer.py": "transformers", "trainer.py lora": "peft", "lightning_closure.py": "lightning"}


@pytest.mark.parametrize("kind", ["loops", pytest.param("libraries", marks=pytest.mark.peers)])
def test_scripts_of_every_kind_end_with_the_same_weights(kind: str, tmp_path: Path) -> None:
    """Their optimizers, each with its model and its steps; workers of a DataLoader have no record."""
    scripts = [words for words in MODELS if (words in OF_LIBRARIES) is (kind == "libraries")]
    if not hasattr(torch.optim, "Muon"):
        scripts = [words for words in scripts if words != "muon_adamw.py"]
    for words in scripts:
        if words in OF_LIBRARIES:
            pytest.importorskip(OF_LIBRARIES[words], reason=f"the script is one of {OF_LIBRARIES[words]}'s")
    seen = run("-q", str(SCRIPTS / "one_after_the_other.py"), *scripts, cwd=tmp_path)
    assert seen.returncode == 0, seen.stderr
    ends = [line for line in seen.stdout.splitlines() if line.startswith("weights ")]
    assert ends == [weights_alone(*words.split()) for words in scripts]
    (folder,) = tmp_path.iterdir()
    found = RunRecord.load(folder)
    models = [f"{one.optimizer} {one.model} {one.steps}" for one in found.summary.optimizers]
    assert models == [model for words in scripts for model in MODELS[words]]
    assert found.summary.notes == () and found.summary.ended
    for one in found.seen:
        assert one.plan is not None and one.forecast is not None and one.history is not None
        assert one.audit is not None and "WD104" not in one.audit.codes


@pytest.mark.distributed
def test_a_launcher_may_stand_before_it_or_behind_it(tmp_path: Path) -> None:
    """Two processes: rank 0 writes, the weights are the same either way, and findings are an exit code."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    script = str(SCRIPTS / "ddp.py")
    given: dict[str, Any] = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 240}
    inside = subprocess.run([*torchrun, "-m", "torchdecay", "run", "-q", script], env=environment(), **given)
    around = run("-q", "--fail-on", "warning", "--", *torchrun, script, cwd=tmp_path)
    assert (inside.returncode, around.returncode) == (0, 1)
    assert weights_in(inside.stdout) == weights_in(around.stdout)
    for name in ("torchdecay-run", "torchdecay-run-2"):
        (about,) = record(tmp_path, name).summary.optimizers
        assert (about.model, about.steps) == ("Sequential", 5)
        assert record(tmp_path, name).summary.process == (0, 2)
    assert len(list(tmp_path.iterdir())) == 2


ENDINGS = {"exit": 3, "_exit": 5, "SIGTERM": -15, "SIGINT": None, "closure": 1}
HOW = ("-O", "-W", "always::DeprecationWarning")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a sitecustomize of the user's own, and the PYTHONPATH that it stands on."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "sitecustomize.py").write_text("MINE = 'my own'\n")
    return folder, os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", ""))))


@pytest.fixture(scope="module")
def alone(place: tuple[Path, str]) -> dict[str, subprocess.CompletedProcess[str]]:
    """The script by itself."""
    folder, path = place
    return {
        how: python(
            *HOW, str(SCRIPTS / "manners.py"), how, "-q", "--every", "7", cwd=folder, stdin="typed", PYTHONPATH=path
        )
        for how in ("exit", "closure", "SIGINT")
    }


@pytest.mark.parametrize("how", ENDINGS)
def test_a_script_sees_nothing_of_it_and_ends_as_it_would(
    how: str, place: tuple[Path, str], alone: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    """Arguments, path, flags, standard input, warnings, handlers, traceback, exit code, whatever the ending."""
    folder, path = place
    seen = run(
        "-q", "--every", "1", "--out", how, str(SCRIPTS / "manners.py"), how, "-q", "--every", "7",
        cwd=folder, flags=HOW, stdin="typed", PYTHONPATH=path,
    )  # fmt: skip
    code = alone[how].returncode if how in alone else ENDINGS[how]
    assert (seen.returncode, seen.stdout) == (code, alone["exit"].stdout)
    assert "my own" in seen.stdout and "typed" in seen.stdout
    if how in alone:
        assert seen.stderr == alone[how].stderr
    else:
        assert seen.stderr.startswith(alone["exit"].stderr)
        assert "torchdecay" not in seen.stderr.replace(str(SCRIPTS), "")
    (one,) = record(folder, how).seen
    assert one.history is not None
    assert one.history.steps[:3] == (1, 2, 3)


def test_nothing_of_ours_stops_the_training(tmp_path: Path) -> None:
    """A fault in audit, forecast, monitor and page is one line each, and in the record; the weights are the same."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text(
        "import sys\n"
        "class Break:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torchdecay.integrations.script.session':\n"
        "            sys.meta_path.remove(self)\n"
        "            import torchdecay.observe.audit.audit as audit\n"
        "            import torchdecay.observe.monitor.watched as watched\n"
        "            import torchdecay.reports.recorded as page\n"
        "            def broken(*args, **more): raise RuntimeError('seeded')\n"
        "            audit.audit = page.page_of = broken\n"
        "            watched.Watched._record = broken\n"
        "sys.meta_path.insert(0, Break())\n"
    )
    path = os.pathsep.join(filter(None, (str(own), os.environ.get("PYTHONPATH", ""))))
    script = str(SCRIPTS / "plain.py")
    seen = run(script, cwd=tmp_path, PYTHONPATH=path)
    assert (seen.returncode, seen.stdout) == (0, weights_alone("plain.py") + "\n")
    for said in (
        "the audit of AdamW failed",
        "the monitor of AdamW: measuring a step failed",
        "the page could not be made",
    ):
        assert sum(said in line for line in seen.stderr.splitlines()) == 1
        assert any(said in note for note in record(tmp_path).summary.notes)


def test_a_folder_is_kept_only_a_run_is_overwritten_and_findings_are_an_exit_code(tmp_path: Path) -> None:
    """Where something stands the page goes beside it; --overwrite replaces the run of that name, and no other.

    1 where something was found; the page is there, also of a script that was ended.
    """
    (tmp_path / "torchdecay-run").mkdir()
    (tmp_path / "torchdecay-run" / "mine.txt").write_text("kept")
    script = str(SCRIPTS / "plain.py")
    for words, code, folder, steps in (
        ("--fail-on warning --stop-after 1", 1, "torchdecay-run-2", 1),
        ("--fail-on error --overwrite --out torchdecay-run-2", 0, "torchdecay-run-2", 3),
    ):
        seen = run(*words.split(), script, "3", cwd=tmp_path)
        assert seen.returncode == code and f"{folder}/index.html" in seen.stderr
        assert record(tmp_path, folder).summary.optimizers[0].steps == steps
        assert (tmp_path / folder / "index.html").exists()
    assert [path.name for path in (tmp_path / "torchdecay-run").iterdir()] == ["mine.txt"]
    page = tmp_path / "torchdecay-run-2" / "index.html"
    page.unlink()
    assert CliRunner().invoke(main, ["report", str(page.parent)]).exit_code == 0
    assert "3 steps of AdamW" in page.read_text()
    shutil.copytree(page.parent, tmp_path / "torchdecay-run-3")
    together = CliRunner().invoke(main, ["report", str(tmp_path), "--out", str(tmp_path / "all.html")])
    assert together.exit_code == 0 and "torchdecay-run-3" in (tmp_path / "all.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-c", "print('hi')"), "did not import torch"),
        (("-c", "import torch; x = torch.optim.SGD([torch.ones(1)], lr=1)"), "SGD was made, and took no step"),
    ],
)
def test_a_script_that_never_steps_is_told_so(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """One line, with what there was; no folder, and the script's own exit code."""
    seen = run(*words, cwd=tmp_path)
    assert seen.returncode == 0
    assert said in seen.stderr and len(seen.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_script_that_does_not_parse_says_so_alone(tmp_path: Path) -> None:
    """As Python says it, with Python's exit code."""
    seen = run("-c", "def f(:", cwd=tmp_path)
    assert seen.returncode == 1 and "SyntaxError" in seen.stderr and "torchdecay:" not in seen.stderr


@pytest.mark.parametrize(("code", "expected"), [("pass", 2), ("raise SystemExit(7)", 7)])
def test_what_could_not_be_looked_at_is_an_exit_code_too(code: str, expected: int, tmp_path: Path) -> None:
    """2 where no optimizer stepped; the script's own, where that is not 0, wins."""
    assert run("--fail-on", "error", "-c", code, cwd=tmp_path).returncode == expected


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    """TORCHDECAY_DISABLE=1: the script as it is, and nothing waits for its torch."""
    code = "import sys; print([type(one).__name__ for one in sys.meta_path], *sorted(sys.modules), *sys.path)"
    off, on = (run("-c", code, cwd=tmp_path, TORCHDECAY_DISABLE=switch) for switch in "10")
    assert (off.returncode, off.stderr, list(tmp_path.iterdir())) == (0, "", [])
    assert off.stdout == python("-c", code, cwd=tmp_path).stdout != on.stdout
