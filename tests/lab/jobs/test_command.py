"""Commands under a sweep: what they are given, where their metric is read, and how they fail."""

from __future__ import annotations

import math
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

import torchdecay as td
from torchdecay.errors import TaskError
from torchdecay.lab.engines import serial
from torchdecay.lab.engines.engine import Engine
from torchdecay.lab.engines.jobs import slots_of
from torchdecay.lab.jobs.command import Command
from torchdecay.lab.jobs.metrics import Filed, Printed
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.lab.sweeps.search import Search
from torchdecay.lab.sweeps.sweep import sweep
from torchdecay.lab.training.contenders import as_contender
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.trial import Assignment, Trial
from torchdecay.reports.sweep.advice import next_command

pytestmark = pytest.mark.long
HEAD = "import json, os, sys, time, pathlib\nvalue, seed = float(sys.argv[1]), int(sys.argv[2])\n"
PARABOLA = HEAD + "for e in range(9): print(f'loss={(value - 1) ** 2 + seed / 100 + 1 / (e + 1)}', flush=True)"


def command(code: str, folder: Path, *more: str, **options: Any) -> Command:
    """A script that is given value and seed."""
    words = [sys.executable, "-S", "-E", "-c", code, "{value}", "{seed}", *more]
    return Command(words, **{"metric": r"loss=(\S+)", "folder": folder, **options})


def trial(value: float | None, seed: int = 0) -> Trial:
    return Trial(contender=as_contender(None if value is None else value), seed=seed, value=value)


def outcome(job: Command, value: float | None = 1.0, seed: int = 0) -> TrainingRun | Failure:
    found: list[TrainingRun | Failure] = []
    serial.run(Assignment(task=job, trials=[trial(value, seed)], on_run=lambda _, one: found.append(one)))
    return found[0]


def curve(job: Command, **setting: Any) -> tuple[float, ...]:
    run = outcome(job, **setting)
    assert isinstance(run, TrainingRun), run
    return run.validation_score or run.validation_loss or ()


def why(job: Command, **setting: Any) -> str:
    failure = outcome(job, **setting)
    assert isinstance(failure, Failure)
    return failure.message


def test_words_are_filled_in_and_the_output_is_kept(tmp_path: Path) -> None:
    """Value, seed and a folder of its own, also inside of words; both streams; a script that asks is told the same."""
    code = HEAD + (
        "print(sys.argv, os.environ['PYTHONUNBUFFERED'], file=sys.stderr)\n"
        "print({k[17:]: v for k, v in os.environ.items() if k.startswith('TORCHDECAY_SWEEP_')})\n"
        "print('loss=1')"
    )
    job = command(code, tmp_path, "--out={out}/x", "{notes}")
    assert curve(job, value=0.25, seed=7) == (1.0,)
    folder = tmp_path / "runs" / "0.25-seed-7"
    said = (folder / "output.txt").read_text()
    assert f"'0.25', '7', '--out={folder}/x', '{{notes}}'] 1" in said
    assert str({"VALUE": "0.25", "SEED": "7", "FOLDER": str(folder), "CHECKPOINT": ""}) in said
    assert curve(job, value=None) == (1.0,) and "'0', '0'" in (tmp_path / "runs/none-seed-0/output.txt").read_text()


def test_a_second_try_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """What a killed one left is neither read nor lost."""
    job = command(HEAD + "pathlib.Path(sys.argv[3]).open('a').write('{\"loss\": 2}\\n')", tmp_path, "{out}/m.jsonl")
    job = Command(job.words, metric=Filed("{out}/m.jsonl", "loss"), folder=tmp_path)
    assert curve(job) == curve(job) == (2.0,)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["1-seed-0", "1-seed-0-2"]


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("loss=3\\rloss=2\\rloss=1, lr=3\\n", (3, 2, 1)),
        ("loss=2, then loss=1)", (2, 1)),
        ("loss=1e-3; loss=nan", (1e-3, math.nan)),
        ("loss=-inf", (-math.inf,)),
        ("loss=none\\nloss=0.5%\\n", (0.5,)),
    ],
)
def test_numbers_are_found_in_lines_and_in_bars(tmp_path: Path, printed: str, expected: tuple[float, ...]) -> None:
    """A progress bar's carriage return ends a line, and what a pattern takes along is no part of the number."""
    found = curve(command(f"{HEAD}print('{printed}')", tmp_path))
    assert str(found) == str(tuple(map(float, expected)))


def test_the_best_of_a_run_is_the_best_so_far(tmp_path: Path) -> None:
    """The curve of `take="best"` never gets worse, and passes over NaN."""
    code = HEAD + "for x in ('3', '1', 'nan', '2'): print('loss=' + x)"
    assert curve(command(code, tmp_path, take="best")) == (3, 1, 1, 1)
    assert curve(command(code, tmp_path, take="best", maximize=True)) == (3, 3, 3, 3)


@pytest.mark.parametrize(
    ("content", "key", "expected"),
    [
        ('{"loss": 2, "eval": {"loss": 5}}\n{"loss": 1}\n{"lo', "loss", (2, 1)),
        ('{"eval": {"loss": 5}}', "eval.loss", (5,)),
        ('{"log": [{"step": 1}, {"loss": 4}, {"loss": 3}]}', "log.loss", (4, 3)),
        ('{"eval.loss": 7, "ok": true}', "eval.loss", (7,)),
        ('[{"loss": NaN}, {"loss": null}, {"loss": true}]', "loss", (math.nan,)),
    ],
)
def test_files_are_json_or_lines_of_it(tmp_path: Path, content: str, key: str, expected: tuple[float, ...]) -> None:
    """Objects inside of objects by dots; a line that is half written waits."""
    reader = Filed("{out}/m.json", key).reader(tmp_path)
    assert reader.read([]) == [] and "was not written" in reader.why_none()
    (tmp_path / "m.json").write_text(content)
    assert str(reader.read([])) == str(list(map(float, expected)))
    assert reader.read([]) == []


def test_tensorboard_is_read_by_its_tag(tmp_path: Path) -> None:
    """Scalars in whatever folder below the run's; what is there instead is said."""
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    from torchdecay.lab.jobs.metrics import Tagged

    with SummaryWriter(str(tmp_path / "logs")) as writer:
        for step, loss in enumerate((2.0, 1.0)):
            writer.add_scalar("val/loss", loss, step)
    assert Tagged("val/loss").reader(tmp_path).read([]) == [2.0, 1.0]
    reader = Tagged("val_loss").reader(tmp_path)
    assert reader.read([]) == [] and "it has val/loss" in reader.why_none()


def test_what_fails_says_why_with_the_end_of_its_output(tmp_path: Path) -> None:
    """An error, a metric that is not there or no number, a command that hangs."""
    failed = outcome(command(HEAD + "print('loss=1'); print('here'); sys.exit(3)", tmp_path))
    assert isinstance(failed, Failure) and failed.message == "it ended with exit code 3: here"
    assert failed.traceback == "loss=1\nhere"
    assert "(signal 9)" in why(command(HEAD + "os.kill(os.getpid(), 9)", tmp_path))
    assert "matched nothing of what was printed" in why(command(HEAD + "print('los=1')", tmp_path))
    assert '"loss=low", which holds no number' in why(command(HEAD + "print('loss=low')", tmp_path))
    began = time.monotonic()
    hanging = command(HEAD + "print('loss=1', flush=True); time.sleep(60)", tmp_path, time_limit=0.5)
    assert "longer than the limit of 0.5 s" in why(hanging) and time.monotonic() - began < 20


STEPPING = (
    "import torch\nmodel = torch.nn.Linear(4, 1, bias=False)\noptimizer = torch.optim.{}(model.parameters(), lr=0.1)\n"
    "optimizer.step(lambda: model(torch.ones(4)).sum())\n"
    "print('loss=', optimizer.param_groups[0].get('weight_decay'), sep='')"
)


def under_apply(code: str, folder: Path) -> Command:
    return Command([sys.executable, "-c", code], metric=r"loss=(\S+)", folder=folder, form="coupled")


@pytest.mark.integration
def test_without_value_the_script_runs_under_apply(tmp_path: Path) -> None:
    """A script that knows no option is given the decay; one in which nothing steps is told of."""
    job = under_apply(STEPPING.format("SGD"), tmp_path)
    assert job.seeds == (0,) and not job.has("value") and curve(job, value=0.25) == (0.25,)
    assert job.applied["coupled:0.25"].num_steps == 1
    assert "no optimizer of torch took a step" in why(under_apply("print('loss=1')", tmp_path))


@pytest.mark.slow
def test_a_script_that_refuses_the_decay_fails_with_why(tmp_path: Path) -> None:
    """As its run does alone."""
    refused = outcome(under_apply(STEPPING.format("LBFGS"), tmp_path), value=0.5)
    assert isinstance(refused, Failure) and "exit code 2" in refused.message and "--apply" in refused.traceback


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (["no-such-command", "{value}"], {}, 'there is no command "no-such-command"'),
        ([], {}, "there is no command"),
        (["sh", "{vlaue}"], {}, "{vlaue}"),
        (["sh", "{value}"], {"metric": "loss"}, "has no groups"),
        (["sh", "{value}"], {"metric": "(a)(b)"}, "has 2 groups"),
        (["sh", "{value}"], {"metric": "loss=("}, "is no pattern"),
        (["sh", "{value}"], {"take": "first"}, "take is 'first'"),
        (["sh", "{value}"], {"time_limit": 0.0}, "time limit"),
        (["sh", "{value}"], {"rungs": (3, 2)}, "rungs is"),
        (["sh", "{value}"], {"lr": 0.0}, "learning rate"),
        (["sh", "{seed}"], {"lr": 0.1}, "{value} is not in the command"),
        (["sh", "{checkpoint}"], {}, "no file is named"),
        (["sh", "{value}"], {"checkpoint": Path(__file__)}, "no {checkpoint} is in the command"),
        (["sh", "{checkpoint}"], {"checkpoint": Path("nowhere.pt")}, "nowhere.pt"),
    ],
)
def test_wrong_use_is_refused_before_anything_runs(words: list[str], options: dict[str, Any], said: str) -> None:
    """One message that says what to write."""
    with pytest.raises(TaskError, match=said.replace("{", r"\{").replace("(", r"\(")):
        Command(words, **{"metric": r"loss=(\S+)", **options})


def test_a_metric_has_a_name_and_a_file_of_its_own() -> None:
    """The words before the number; a file that all runs would write is refused."""
    names = {r"val_loss=(\S+)": "val_loss", r"test accuracy (\d+)": "test accuracy", r"(\S+)": "metric"}
    assert {pattern: Printed(pattern).name for pattern in names} == names
    with pytest.raises(TaskError, match="the same for every run"):
        Filed("metrics.jsonl", "loss")
    with pytest.raises(TaskError, match="which value in it"):
        Filed("", "{out}/metrics.jsonl")


def swept(job: Command, **options: Any) -> Sweep:
    return sweep(job, **{"search": Search(0.1, 10, points=5), "seeds": 3, **options})


@pytest.fixture(scope="module")
def parabola(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return swept(command(PARABOLA, tmp_path_factory.mktemp("parabola")), engine="process")


def test_a_sweep_of_a_command_chooses_and_says_how_sure_it_is(parabola: Sweep) -> None:
    """Every value and no decay, with each seed; against no decay by the metric itself, as there are no test rows."""
    best = parabola.best
    assert best is not None and best.point.value == 1.0 and best.point.label == "1"
    assert best.against is not None and best.against.better and best.test_measure == "validation_loss"
    assert len(parabola.runs) == 18 and {run.steps for run in parabola.runs} == {tuple(range(1, 10))}
    assert "test rows" not in str(parabola) and "loss 0.121" in str(parabola)
    assert dict(parabola.facts)["command"].endswith("'{value}' '{seed}'")
    assert Sweep.from_json(parabola.to_json()) == parabola


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["--wd", "{value}"], "--wd {value}"),
        (["--wd={value}"], "--wd={value}"),
        (["optim.wd={value}", "{seed}"], "optim.wd={value}"),
        (["-c", "{value}"], "-c {value}"),
        (["x y", "{value}"], "{value}"),
        (["{seed}"], ""),
    ],
)
def test_points_are_named_by_what_takes_the_value(words: list[str], place: str) -> None:
    """As they were typed."""
    assert Command(["sh", *words], metric="x(.)").place == place


def test_two_at_a_time_tell_the_same(parabola: Sweep, tmp_path: Path) -> None:
    """Watched by threads; GPUs and cores are dealt out."""
    both = swept(command(PARABOLA, tmp_path), engine=Engine("process", workers=2))
    assert [(run.label, run.seed, run.validation_loss) for run in both.runs] == [
        (run.label, run.seed, run.validation_loss) for run in parabola.runs
    ]


def test_gpus_are_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An equal part of those that can be seen for each; shared where there are more runs than GPUs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,GPU-a,7")
    assert [slot.devices for slot in slots_of(None)] == ["3", "5", "GPU-a", "7"]
    assert [slot.devices for slot in slots_of(2)] == ["3,GPU-a", "5,7"]
    assert [slot.devices for slot in slots_of(5)] == ["3", "5", "GPU-a", "7", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert [slot.devices for slot in slots_of(2)] == [None, None] and len(slots_of(None)) == 1


def test_one_value_that_fails_costs_itself_only(tmp_path: Path) -> None:
    """The others go on; a value that gives NaN has diverged."""
    code = HEAD + "sys.exit('too strong') if value > 5 else print('loss=' + ('nan' if value > 0.5 else '1'))"
    found = swept(command(code, tmp_path), seeds=1)
    assert {failure.label for failure in found.failures} == {"10"}
    assert found.failures[0].traceback == "too strong"
    assert [one.point.label for one in found.curve if one.diverged] == ["1"]


def test_seeds_that_change_nothing_are_said_and_not_counted(tmp_path: Path) -> None:
    """Equal metrics in every run; and without a place for the seed there is one run of each value."""
    code = HEAD + "print(f'loss={(value - 1) ** 2}')"
    found = swept(command(code, tmp_path))
    assert found.seeds == (0,) and {run.seed for run in found.runs} == {0}
    assert any("Seeds 1 and 2 told the same metrics as 0" in note for note in found.notes)
    assert found.best is not None and found.best.num_seeds == 1 and found.best.against is not None
    assert found.best.against.better is None
    assert found.alike_seeds == (1, 2)
    assert "let the seed change the run" in td.verdict(found) and "--seeds" not in next_command(found)
    diverged = swept(command("print('loss=nan')", tmp_path))
    assert diverged.seeds == (0, 1, 2) and not any("told the same" in note for note in diverged.notes)
    assert "Diverged, and out of the choice: 0, 0.1" in td.verdict(diverged)
    words = [sys.executable, "-S", "-c", "import sys; print('loss=' + sys.argv[1])", "{value}"]
    alone = swept(Command(words, metric=r"loss=(\S+)", folder=tmp_path))
    assert alone.seeds == (0,) and any("No {seed} is in the command" in note for note in alone.notes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"form": "decoupled"}, "would be given to nobody"),
        ({"search": "grid"}, "no range of values"),
        ({"search": Search(0.1, 1, lr_scales=[1, 2])}, "multiplier of its learning rate"),
        ({"groups": {"a": "*"}}, "groups need a task"),
        ({"direction": True}, "a direction needs a task"),
        ({"engine": "stacked"}, "can't be one model"),
        ({"maximize": True}, "says by itself what is better"),
    ],
)
def test_what_a_command_can_not_be_asked_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    """Before the first run."""
    with pytest.raises(TaskError, match=said):
        swept(command(PARABOLA, tmp_path), **options)


def test_halving_stops_what_is_outside_the_best_third(tmp_path: Path) -> None:
    """At a ninth and a third of a whole run, or where it is told to; runs without decay go to their end."""
    code = HEAD + (
        "import signal\nsignal.signal(15, lambda *a: (os.write(1, b'asked to end'), os._exit(0)))\n"
        "for e in range(9):\n    print(f'loss={(value - 1) ** 2 + seed / 100}', flush=True)\n"
        "    time.sleep(60 * (value > 5 and e == 1))"
    )
    job = command(code, tmp_path)
    found = swept(job, search=Search(0.1, 10, points=9, kind="halving"), seeds=1)
    ends = {run.label: (run.stopped, len(run.steps)) for run in found.runs}
    assert ends["0"] == (False, 9) and ends["1"] == (False, 9)
    assert ends["10"] == (True, 1) and found.best is not None and found.best.point.value == 1.0
    assert "asked to end" in (tmp_path / "runs/10-seed-0/output.txt").read_text()
    assert "Successive halving stopped" in str(found)
    told = swept(
        command(code, tmp_path, rungs=(2,)), search=Search(0.1, 10, points=4, kind="halving"), seeds=1, rule="best"
    )
    assert {len(run.steps) for run in told.runs if run.stopped} == {2}
    assert "is not known" in told.why_rungs


def test_without_the_processes_of_unix_commands_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(TaskError, match="can't be swept on Windows"):
        Command(["sh", "{value}"], metric=r"loss=(\S+)")


def test_runs_go_on_from_a_checkpoint_and_one_that_does_not_read_it_is_told_of(tmp_path: Path) -> None:
    """A file or a folder; that it is there, or is listed, is not that it is read."""
    (tmp_path / "a.pt").write_text("0.5")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "model.bin").write_text("0.25")
    read = HEAD + "path = pathlib.Path(sys.argv[3]); path = path / 'model.bin' if path.is_dir() else path\n"
    for name, expected in (("a.pt", 0.5), ("c", 0.25)):
        checkpoint = tmp_path / name
        job = command(read + "print('loss=' + path.read_text())", tmp_path, "{checkpoint}", checkpoint=checkpoint)
        assert curve(job) == (expected,) and dict(job.facts)["goes on from"] == str(checkpoint)
        idle = read + "list(path.parent.iterdir()); print('loss=1')"
        said = why(command(idle, tmp_path, "{checkpoint}", checkpoint=checkpoint))
        assert f"did not open {checkpoint}" in said
    before = job.identity
    (tmp_path / "a.pt").write_text("0.75")
    assert command(read, tmp_path, "{checkpoint}", checkpoint=tmp_path / "a.pt").identity != before


LEAVING = HEAD + (
    "import subprocess\n"
    "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\n"
    "print('pids', os.getpid(), child.pid, flush=True)\n"
    "print('loss=1', flush=True)\n"
)


def pids_in(path: Path) -> list[int]:
    for _ in range(200):
        lines = path.read_text().splitlines() if path.exists() else []
        if found := [line for line in lines if line.startswith("pids ")]:
            return [int(word) for word in found[0].split()[1:]]
        time.sleep(0.05)
    raise AssertionError(f"nothing in {path}")


def is_gone(pid: int) -> bool:
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_nothing_of_a_command_outlives_it(tmp_path: Path) -> None:
    """What it leaves in the background holds its output open, and is ended with it."""
    assert curve(command(LEAVING, tmp_path)) == (1.0,)
    assert all(map(is_gone, pids_in(tmp_path / "runs/1-seed-0/output.txt")))


@pytest.mark.integration
def test_commands_die_with_the_sweep(tmp_path: Path) -> None:
    """Also when it is killed: neither they nor their children are left to use the GPU."""
    code = LEAVING + "time.sleep(60)"
    words = ["-m", "torchdecay", "sweep", "--metric", r"loss=(\S+)", "--minimize", "--value", "1", "--out", "out"]
    words += ["--", sys.executable, "-S", "-E", "-c", code, "{value}", "{seed}"]
    ran = subprocess.Popen([sys.executable, *words], cwd=tmp_path)
    try:
        pids = pids_in(tmp_path / "out/runs/none-seed-0/output.txt")
    finally:
        ran.send_signal(signal.SIGKILL)
        ran.wait()
    assert all(map(is_gone, pids))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["process", "ray"])
def test_ten_kills_lose_no_finished_run_and_repeat_none(tmp_path: Path, engine: str) -> None:
    """Two workers, killed at any moment: each run counts once, and what had ended before a kill is not made again."""
    code = HEAD + (
        "time.sleep(0.3)\nprint(f'loss={(value - 1) ** 2 + seed / 100}', flush=True)\n"
        "open('ends.txt', 'a').write(f'{value} {seed}\\n')"
    )
    words = ["-m", "torchdecay", "sweep", "--metric", r"loss=(\S+)", "--minimize", "--from", "0.01", "--to", "10"]
    words += ["--points", "10", "--seeds", "3", "--workers", "2", "--store", "s.db", "--resume", "--out", "out"]
    words += ["--engine", engine, "--", sys.executable, "-S", "-E", "-c", code, "{value}", "{seed}"]
    # Ray binds the machine's own address, unless there is none, and has short names for its sockets.
    apart = ["unshare", "--net", "bash", "-c", 'ip link set lo up && exec "$@"', "-"] if engine == "ray" else []
    with tempfile.TemporaryDirectory(prefix="td-", dir="/tmp") as home:
        more: Any = {"cwd": tmp_path, "env": os.environ | {"RAY_TMPDIR": home, "RAY_USAGE_STATS_ENABLED": "0"}}
        wait = random.Random(0)
        for _ in range(10):
            ran = subprocess.Popen([*apart, sys.executable, *words], stderr=subprocess.PIPE, **more)
            assert ran.stderr is not None
            # Once a run has ended, or the sweep has; a Ray that does not start is killed as well.
            select.select([ran.stderr], [], [], 60)
            time.sleep(wait.random() * 2)
            ran.send_signal(signal.SIGKILL)
            ran.wait()
        subprocess.run([*apart, sys.executable, *words], check=True, capture_output=True, **more)
    found = Sweep.from_json((tmp_path / "out/sweep.json").read_text())
    assert len(found.runs) == len({(run.label, run.seed) for run in found.runs}) == 33 and not found.failures
    ends = (tmp_path / "ends.txt").read_text().splitlines()
    # A kill between the end of a command and its record costs that run, of which there are two at a time.
    assert len(ends) <= 33 + 2 * 10 and len(set(ends)) == 33
    with sqlite3.connect(tmp_path / "s.db") as store:
        (count,) = store.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'").fetchone()
    assert count == 33
