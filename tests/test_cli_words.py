"""The command line takes numbers and names as people type them, answers in its own words, and ignores no option."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import torchdecay as td
from calling import torchdecay as call
from torchdecay.cli.words import in_options
from torchdecay.errors import UnitError
from torchdecay.numbers import read_count, read_number

TRAIN = """
import sys
import torch

def make_model():
    return torch.nn.Linear(4, 2)

def make_optimizer():
    return torch.optim.AdamW(make_model().parameters(), lr=1e-2)

def main(words):
    pass

lr = 0.1
"""


@pytest.fixture(autouse=True)
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A script in the current folder, its own in each test, and a plan that was saved from it."""
    name = f"train_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    call("plan", f"{name}:make_model", "--save", "plan.json")
    return name


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("pass allow_hooks=True.", "pass --allow-hooks."),
        ("Pass model=..., or build it anew.", "Let the function return (optimizer, model), or build it anew."),
        ("Give seeds=3, model=, or its size.", "Give --seeds 3, a model, or its size."),
        ("Return torchdecay.lab.Task(seeds=..., model=...).", "Return torchdecay.lab.Task(seeds=..., model=...)."),
        ("coefficient is 'x', of type str.", "coefficient is 'x'."),
        ("Write it so, or give a function: lambda value: td.l1(value, lr=2).", "Write it so."),
    ],
)
def test_what_was_typed_is_answered_in_options(said: str, told: str) -> None:
    """Python stays where it is to be written into a project."""
    options = {"allow_hooks": "--allow-hooks", "seeds": "--seeds", "lr": "--lr"}
    assert in_options(said, options) == told


def refused(*words: str) -> str:
    """What wrong use is told."""
    result = call(*words, code=2)
    assert not result.stdout
    return " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "words",
    [
        "plan plan.json --decay l1:1",
        "plan plan.json --rules torch",
        "explain plan.json weight --decay l1:1",
        "explain plan.json weight --rules standard",
        "forecast plan.json --decay decoupled:3 --lr 0.1 --steps 10",
        "forecast plan.json --rules torch --lr 0.1 --steps 10",
        "diff plan.json {}:make_model --rules torch",
        "diff {}:make_model plan.json --against torch",
        "diff plan.json plan.json --decay l1:1",
    ],
)
def test_an_option_that_a_saved_plan_would_ignore_is_refused(name: str, words: str) -> None:
    """A false "no difference" is worse than a message; which option, and for which file, is said."""
    option = re.findall("--(?:decay|rules|against)", words)[0]
    said = refused(*words.format(name).split())
    assert f"{option} " in said and "does not go with plan.json" in said


def test_what_goes_with_the_other_side_is_taken(name: str) -> None:
    """A saved plan against today's model: rules and decay of the model are its own."""
    assert "no difference" in call("diff", "plan.json", f"{name}:make_model", "--against", "standard").stdout
    assert call("diff", "plan.json", f"{name}:make_model", "--against", "torch", code=1).stdout
    assert call("diff", "plan.json", f"{name}:make_model", "--decay", "l1:1", code=1).stdout


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        ("convert 0.1 decoupled half_life --lr 1e-3 --batch-size 32 --loss mse", "depends on --loss, --batch-size"),
        ("convert 0.1 coupled half_penalty --lr 1 --optimizer sgd", "depends on --optimizer, --lr"),
        ("convert 0.1 decoupled decoupled --steps 3", "nothing depends on --steps"),
        ("sweep ridge --value 2 --from 7", "'--from'"),
        ("sweep ridge --value 2 --to 7 --points 12", "'--to' / '--points'"),
        ("audit {}:make_optimizer --format github --json", "for --format"),
    ],
)  # fmt: skip
def test_an_option_that_another_one_makes_idle_is_refused(name: str, words: str, idle: str) -> None:
    """Whoever typed it believes that it counts."""
    assert idle in refused(*words.format(name).split())


@pytest.mark.parametrize(
    "words",
    [
        "0.1 decoupled half_life_epochs --lr 1e-3 --num-samples 50 --batch-size 5 --accumulate 1",
        "0.1 decoupled timescale_epochs --lr 1e-3 --steps 50 --epochs 5",
        "0.1 decoupled timescale_tokens --lr 1e-3 --tokens-per-sample 50 --batch-size 5",
        "0.1 decoupled timescale_runs --lr 1e-3 --epochs 2 --steps-per-epoch 5",
        "0.1 coupled decoupled --optimizer sgd --momentum 0",
        "0.1 native decoupled --optimizer adamw",
    ],
)
def test_options_from_which_a_need_follows_are_taken(words: str) -> None:
    """Whichever way one tells how long an epoch is."""
    assert float(call("convert", *words.split()).stdout) > 0


@pytest.mark.parametrize("command", ["plan {}:make_model", "forecast {}:make_model --steps 3", "compare ridge"])
def test_an_empty_decay_is_no_decay_by_mistake(name: str, command: str) -> None:
    """A variable of the shell that is not set."""
    assert 'the decay is ""' in refused(*command.format(name).split(), "--decay", "")


@pytest.mark.parametrize(
    "words",
    ["compare ridge --out", "compare ridge --store", "compare csv --target y --data", "sweep ridge --out", "demo --out",
     "plan {}:make_model --save", "forecast {}:make_optimizer --steps 3 --figure", "report plan.json --out", "report",
     "run --out"],
)  # fmt: skip
def test_an_empty_path_is_refused(name: str, words: str) -> None:
    """It would be the current folder, or no option at all."""
    before = set(Path().iterdir())
    assert 'the path is ""' in refused(*words.format(name).split(), "", *(["x.py"] if words == "run --out" else []))
    assert {path for path in set(Path().iterdir()) - before if path.name != "__pycache__"} == set()


def test_rules_without_a_model_are_refused(name: str) -> None:
    """An optimizer brings its own groups."""
    assert "--rules goes with a model" in refused(
        "forecast", f"{name}:make_optimizer", "--steps", "3", "--rules", "torch"
    )


def test_a_script_is_told_what_in_it_to_name(name: str) -> None:
    """Its functions without arguments, in the noun of the command; a path does for the name of a module."""
    said = refused("audit", f"{name}.py")
    assert "names no optimizer" in said and f"{name}:make_model and {name}:make_optimizer." in said
    assert "print(td.audit(optimizer, model=model))" in said and "main" not in said and ":lr" not in said
    assert "names no model" in refused("plan", f"{name}.py") and "names no task" in refused("compare", f"{name}.py")
    assert "Write my_project:make_model, say." in refused("plan", "resnet")
    for target in (f"./{name}:make_model", f"{name}.py:make_model", f"./{name}.py:make_model"):
        assert "weight" in call("plan", target).stdout


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.1", 0.1), ("1e5", 1e5), ("50_000", 5e4), ("124M", 124e6), ("1.5k", 1500.0), ("0.1%", 0.001),
     ("10 per cent", 0.1), (" -0.1", -0.1), ("−2", -2.0), (".5", 0.5), ("7B", 7e9)],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(text: str, value: float) -> None:
    """Thousands, millions, per cent."""
    assert read_number(text) == value
    if value == int(value):
        assert read_count(text) == int(value)


@pytest.mark.parametrize("text", ["", "x", "0,1", "1e", "1..2", "12m", "0x10", "1 2", "--1", "k"])
def test_what_is_no_number_is_refused(text: str) -> None:
    """A comma is told what to write."""
    with pytest.raises(UnitError, match=r"0\.1" if text in ("0,1", "x") else "is not a number"):
        read_number(text)
    with pytest.raises(UnitError, match="whole"):
        read_count("0.5")


def test_numbers_on_the_command_line() -> None:
    """Negative ones are no options, exponents are whole, models have millions."""
    assert "outside its range" in refused("convert", "-0.1", "decoupled", "per_step", "--lr", "1")
    assert "outside its range" in refused("rescale", "-.1", "--width", "2,4")
    assert "Write 0.1." in refused("convert", "0,1", "decoupled", "per_step", "--lr", "1")
    assert "Write 1000." in refused("convert", "1", "decoupled", "per_step", "--lr", "1", "--steps", "1,000")
    for command, given in (
        ("compare", "--decay decoupled:5%"),
        ("sweep", "--value 5%"),
        ("sweep", "--from 5% --to 10% --points 2"),
    ):
        words = [command, "ridge", "--seeds", "1", "--steps", "2e0", *given.split(), "--out", "o", "--json"]
        made = json.loads(call(*words).stdout)
        assert "decoupled(0.05)" in {run["decay"] for run in made["runs"]} and made["runs"][0]["steps"][-1] == 2
        assert "is below 1" in refused(command, "ridge", "--steps", "0")
    words = ["--lr", "6e-4", "--steps", "5e3", "--batch-size", "480", "--tokens-per-sample", "1k"]
    known = ["--known", "10%,lr=6e-4,steps=1k,batch_size=480,tokens_per_sample=1k,num_params=124M"]
    assert json.loads(call("suggest", "124M", *words, *known, "--json").stdout)["rule"] == "inherit"
    assert (
        call("convert", "1%", "per_step", "half_life").stdout == call("convert", "0.01", "per_step", "half_life").stdout
    )
    assert "No such option" in refused("convert", "--lrr", "1")


@pytest.mark.parametrize(
    ("unit", "said"),
    [("weight_decay", "Write native, with --optimizer:"), ("wd", "Write native"), ("adamw", "write decoupled"),
     ("AdamW", "write decoupled"), ("sgd", "write coupled"), ("halflife", 'Nearest: "half_life"')],
)  # fmt: skip
def test_an_unknown_unit_is_told_what_was_meant(unit: str, said: str) -> None:
    """Not the unit that is spelled most alike."""
    assert said in refused("convert", "0.1", unit, "per_step", "--lr", "1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("rescale 0.1", "Give --before and --after as lr=...,steps=..., or --width old,new"),
        ("rescale 0.1 --before lr=1,steps=2", "Give --before lr=...,steps=... and --after lr=...,steps=..."),
        ("suggest --lr 1 --steps 10 --rule inherit", "Give --known value,lr=...,steps=... of a run"),
        ("suggest --steps 10", "--lr NUMBER, or --optimizer with one learning rate"),
        ("compare ridge --seeds 0,0", "Write --seeds 3 or --seeds 0,1,2."),
        ("compare ridge --decay none --decay none", "Name it once."),
        ("forecast {}:make_model --decay decoupled:1 --steps 10", "Write --lr NUMBER."),
        (
            "forecast {}:make_optimizer --steps 10 --epochs 4 --batch-size 3 --num-samples 3",
            "--steps 10 contradicts --epochs 4",
        ),
        ("suggest --lr 1 --known 0.1,lr=1 --steps 3", "neither steps nor epochs"),
        ("forecast {}:make_optimizer --steps 10 --epochs 4", "--steps 10 contradicts --epochs 4: 2.5 steps per epoch."),
        ("suggest --lr 1 --steps 10 --epochs 4", "Leave one of them out, or write --steps 8."),
        ("compare ridge --store /dev/null", "the store /dev/null is no file."),
    ],
)
def test_messages_name_options(name: str, words: str, said: str) -> None:
    """And nothing that only Python can be given."""
    found = refused(*words.format(name).split())
    assert said in found and "td." not in found and "[0, 1" not in found and "optional=" not in found


def test_a_warm_up_alone_has_the_default_schedule(name: str) -> None:
    """The help states it."""
    words = ["forecast", f"{name}:make_optimizer", "--steps", "100", "--warmup-steps", "10"]
    assert call(*words).stdout == call(*words, "--schedule", "constant").stdout != call(*words[:-2]).stdout


def test_a_file_is_named_by_its_whole_path_too(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its folder, and from elsewhere."""
    (tmp_path / "far").mkdir()
    Path(tmp_path, "far", f"far_{name}.py").write_text(TRAIN)
    assert call("plan", f"{tmp_path}/{name}.py:make_model").stdout
    monkeypatch.chdir(tmp_path / "far")
    assert call("plan", f"{tmp_path}/far/far_{name}.py:make_model").stdout
    assert call("plan", f"{tmp_path}/{name}.py:make_model").stdout


def test_a_message_that_quotes_other_code_stays_as_it_is() -> None:
    """Only what the command has an option for is an option."""
    assert in_options("f(x=1) raises, and lr=2 is wrong.", {"lr": "--lr"}) == "f(x=1) raises, and --lr 2 is wrong."


def test_a_list_for_programs() -> None:
    """As every other command, --list takes --json."""
    assert "digits" in json.loads(call("compare", "--list", "--json").stdout)
    assert "digits" in json.loads(call("compare", "--json", "--list").stdout)
    assert call("compare", "--list").stdout.startswith("overfit")


def test_folders_are_made_alike_and_a_page_is_no_text_file(name: str) -> None:
    """Where --out, --figure and --store make a folder, --save does; a folder x.txt is nobody's wish."""
    call("plan", f"{name}:make_model", "--save", "a/b/plan.json")
    assert Path("a/b/plan.json").is_file()
    for out in ("x.txt", "x.pdf", "x.json"):
        assert "Name a folder, or x.html." in refused("report", "plan.json", "--out", out)
        assert not Path(out).exists()
    call("report", "plan.json", "--out", "c/x.html")
    call("report", "plan.json", "--out", "v1.2")
    assert Path("c/x.html").is_file() and Path("v1.2/index.html").is_file()


def test_errors_are_plain_where_no_color_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the error is red otherwise."""
    from click.testing import CliRunner

    from torchdecay.cli import main

    words = ("convert", "1", "nothing", "per_step")
    assert "\x1b[" in CliRunner().invoke(main, words, color=True).stderr
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in CliRunner().invoke(main, words, color=True).stderr


def test_a_full_disk_is_no_wrong_use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1: whatever was typed, it was not that."""

    def full(*args: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    assert "can't be written" in call("plan", f"{name}:make_model", "--save", "other.json", code=1).stderr
    assert not Path("other.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("words", ["convert 1 coupled penalty", "compare --list", "--help"])
def test_output_that_can_not_be_written_is_told(words: str) -> None:
    """In one line, without a traceback, also of what Python writes at its end."""
    source = str(Path(td.__file__).parents[1])
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "torchdecay", *words.split()], stdout=full, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": source},
        )  # fmt: skip
    assert done.returncode == 1 and done.stderr == "The output can't be written: No space left on device.\n"
