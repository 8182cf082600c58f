"""A command line is split where Python would, and the script's process starts as this one did."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from torchdecay.cli import main
from torchdecay.errors import TaskError
from torchdecay.integrations.script import command
from torchdecay.integrations.script.command import DOOR, Split, become, flags_of_python, split, verdict
from torchdecay.integrations.script.folder import claim
from torchdecay.integrations.script.options import Options, is_disabled
from torchdecay.integrations.script.unseen import say_unseen
from torchdecay.integrations.script.watching import Watching
from torchdecay.observe.recorded.record import RunRecord, RunSummary


@pytest.mark.parametrize(
    ("words", "ours", "python", "given"),
    [
        ("train.py --lr 1", "", "train.py --lr 1", ""),
        ("-q --every 5 train.py -q", "-q --every 5", "train.py -q", ""),
        ("--every=5 train.py -- x", "--every=5", "train.py -- x", ""),
        ("--by role -m pkg.mod --by x", "--by role", "-m pkg.mod --by x", ""),
        ("-mpkg --out y", "", "-mpkg --out y", ""),
        ("-c pass -q", "", "-c pass -q", ""),
        ("-q -- torchrun -m x", "-q", "", "torchrun -m x"),
        ("-", "", "-", ""),
        ("-q", "-q", "", ""),
        ("--help train.py", "--help", "train.py", ""),
    ],
)
def test_options_end_where_the_script_begins(words: str, ours: str, python: str, given: str) -> None:
    """At the first word that is no option, at -m or -c, or at --; all behind it is the script's."""
    told = split(words.split(), {"--every", "--by", "--out"})
    assert told == Split(tuple(ours.split()), tuple(python.split()), tuple(given.split()))


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ("python -m torchdecay run x.py -u", []),
        ("python -u -W error -X dev -O -m torchdecay run", ["-u", "-W", "error", "-X", "dev", "-O"]),
        ("python -Werror -BO /usr/bin/torchdecay run -q", ["-Werror", "-BO"]),
        ("python", []),
    ],
)
def test_flags_of_python_are_those_before_the_program(words: str, flags: list[str]) -> None:
    """They are handed on; what stands behind the program is not Python's."""
    assert flags_of_python(words.split()) == flags


@pytest.mark.parametrize(
    ("words", "front"),
    [
        ("/v/python /v/torchrun --nnodes 1 -m torchdecay run x.py", "torchrun --nnodes 1 -m torchdecay run"),
        ("/v/python -m torch.distributed.run -m torchdecay run x", "python -m torch.distributed.run -m torchdecay run"),
        ("/v/python /v/accelerate launch -m torchdecay run x.py", "accelerate launch -m torchdecay run"),
        ("/usr/bin/srun -n 2 /v/torchdecay run x.py", "srun -n 2 /v/torchdecay run"),
        ("/v/torchdecay run x.py", "torchdecay run"),
        ("bash -c x", "torchdecay run"),
        ("", "torchdecay run"),
    ],
)
def test_what_to_run_next_begins_with_the_launcher(words: str, front: str) -> None:
    """Which alone knows of the processes and their number."""
    assert command._front(words.split()) == front


def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str], dict[str, str]]]:
    calls: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(command.os, "execve", lambda *given: calls.append(given))
    return calls


def test_every_option_stands_with_its_variable_in_the_docs_and_the_usage_names_the_script() -> None:
    """The page's table has a line for each, and none more but the switch for all of it."""
    page = (Path(__file__).parents[2] / "docs" / "run.md").read_text()
    shown = CliRunner().invoke(main, ["run", "--help"]).output
    assert shown.startswith("Usage: main run [OPTIONS] SCRIPT [ARGS]...\n")
    options = {param.opts[-1]: param.envvar for param in main.get_command(None, "run").params if param.envvar}  # type: ignore[attr-defined, arg-type]
    assert len(options) == 13
    lines = [line for line in page.splitlines() if "| `TORCHDECAY_" in line]
    assert len(lines) == len(options) + 1 and "TORCHDECAY_DISABLE=1" in lines[-1]
    for name, variable in options.items():
        assert sum(f"{name}" in line and f"`{variable}" in line for line in lines) == 1 and variable in shown


def test_options_travel_as_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Flags win over variables, both reach the script's process, the folder as seen from here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "mine")
    monkeypatch.setenv("TORCHDECAY_EVERY", "7")
    monkeypatch.setenv("TORCHDECAY_BY", "block")
    monkeypatch.delenv("TORCHDECAY_DISABLE", raising=False)
    calls = started(monkeypatch)
    (tmp_path / "train.py").touch()
    result = CliRunner().invoke(main, ["run", "--by", "tensor", "-q", "train.py", "--every", "1"])
    assert result.exit_code == 0, result.output
    ((program, words, environment),) = calls
    assert program == sys.executable and words[-3:] == ["train.py", "--every", "1"]
    assert environment["PYTHONPATH"].split(":") == [str(DOOR), "mine"]
    told = Options.from_environment(environment)
    assert (told.every, told.by, told.quiet, told.out) == (7, "tensor", True, str(tmp_path / "torchdecay-run"))
    assert told.command == "train.py --every 1" and told.run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.py"], 'there is no script "nowhere.py"'),
        ([], "there is no script"),
        (["--evry", "5", "x.py"], "No such option"),
        (["--every", "0", "x.py"], "0 is below 1"),
        (["--stop-after", "0", "x.py"], "0 is below 1"),
        (["--steps", "0", "x.py"], "0 is below 1"),
        (["-I", "x.py"], "would get -I, which closes the door"),
        (["-Su", "x.py"], "would get -S, which closes the door"),
        (["-W", "ignore", "x.py"], "Write python -W VALUE -m torchdecay run SCRIPT."),
        (["--", "python3", "-uE", "x.py"], "a Python with -E, which closes the door"),
        (["--", "no-such-command"], 'there is no command "no-such-command"'),
        (["-m"], "there is no script"),
        (["--plan", "nowhere.txt", "-c", "pass"], 'the plan "nowhere.txt" can\'t be read'),
        (["--plan", ".", "-c", "pass"], 'the plan "." can\'t be read'),
        (["--apply", "nowhere.json", "-c", "pass"], 'the plan "nowhere.json" can\'t be read'),
    ],
)
def test_wrong_use_is_one_message(words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Exit code 2, and nothing was started."""
    monkeypatch.chdir(tmp_path)
    calls = started(monkeypatch)
    result = CliRunner().invoke(main, ["run", *words])
    assert (result.exit_code, calls) == (2, [])
    assert said in result.output


def test_a_long_command_and_closed_streams_start_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system limits each variable to 128 KiB; Python has None for a stream that is closed."""
    calls = started(monkeypatch)
    monkeypatch.delenv("TORCHDECAY_DISABLE", raising=False)
    monkeypatch.setattr(command.sys, "stdout", None)
    monkeypatch.setattr(command.sys, "stderr", None)
    become(Split((), ("-c", "pass", "x" * 1_000_000)), Options())
    ((_, words, environment),) = calls
    assert words[-1] == "x" * 1_000_000
    assert max(map(len, environment.values())) < 100_000 and environment["TORCHDECAY_COMMAND"].startswith("-c pass x")


@pytest.mark.parametrize("flag", ["isolated", "ignore_environment", "no_site"])
def test_a_python_that_ignores_the_door_is_refused(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """-I, -E and -S: said, and not run without anybody looking."""

    class Flags:
        isolated = ignore_environment = no_site = 0

    setattr(Flags, flag, 1)
    monkeypatch.setattr(command.sys, "flags", Flags)
    monkeypatch.delenv("TORCHDECAY_DISABLE", raising=False)
    calls = started(monkeypatch)
    with pytest.raises(TaskError, match="Python was started with -"):
        become(Split((), ("-c", "pass")), Options())
    assert calls == []


@pytest.mark.parametrize(
    ("named", "code", "said"),
    [("Adamm", 2, "no optimizer is Adamm; seen: SGD."), ("SGD, 7", 2, "no optimizer is 7"), ("1, Optimizer", 0, "")],
)
def test_a_name_that_no_optimizer_has_is_an_exit_code(
    named: str, code: int, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """2, with the names that there were."""
    options = Options(out=str(tmp_path / "out"), apply="none", optimizer=named, run="x", quiet=True)
    with Watching(options):
        model = torch.nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.ones(2)).sum().backward()
        optimizer.step()
    assert verdict(0, options) == code
    assert said in capfd.readouterr().err
    assert verdict(0, Options(out=str(tmp_path / "none"), optimizer=named)) == 2


def test_a_process_that_was_started_and_trained_is_told_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its own words may have gone elsewhere."""
    options = Options(out=str(tmp_path / "out"), run="x")
    say_unseen(options.to_environment())
    assert "Nothing to show" in capfd.readouterr().err
    claim(tmp_path / "out", "x", overwrite=False)
    RunRecord(RunSummary(run="x")).save(tmp_path / "out")
    say_unseen(options.to_environment())
    assert f"trained: {tmp_path / 'out'}" in capfd.readouterr().err


@pytest.mark.parametrize(("text", "off"), [("1", True), ("yes", True), ("0", False), ("", False), ("no", False)])
def test_the_switch(text: str, off: bool) -> None:
    """TORCHDECAY_DISABLE."""
    assert is_disabled({"TORCHDECAY_DISABLE": text}) is off


def test_replacing_a_run_takes_its_own_files_only(tmp_path: Path) -> None:
    """What a person put beside the page stays, whatever its name begins with."""
    for name in ("summary.json", "index.html", "plan-1.json", "history-2.jsonl", "plan-b.txt", "forecast-draft.md"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "summary.json").write_text('{"format": "torchdecay.run", "run": "earlier"}')
    assert claim(tmp_path, "later", overwrite=True) == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {"plan-b.txt", "forecast-draft.md"}


def test_only_the_run_that_is_named_is_replaced(tmp_path: Path) -> None:
    """Where something else stands under that name, a new folder is made, and the runs beside it stay."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    assert claim(tmp_path / "out", "first", overwrite=True) == tmp_path / "out-2"
    RunRecord(RunSummary(run="first")).save(tmp_path / "out-2")
    assert claim(tmp_path / "out", "later", overwrite=True) == tmp_path / "out-3"
    assert claim(tmp_path / "out-2", "later", overwrite=True) == tmp_path / "out-2"
