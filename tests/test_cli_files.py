"""Checkpoints and saved plans on the command line: what is read, what is written, and what is refused."""

from __future__ import annotations

import importlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from torch import nn

from results_of_each_kind import every_result
from torchdecay.cli import main
from torchdecay.cli.inputs.results import CLASSES, load_result
from torchdecay.plans.plan import Plan
from torchdecay.records import JsonRecord

MODULE = """
import torch

def model():
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))

def other():
    return torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2)})

def grown():
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))

def setup_of(**changes):
    made = model()
    return {"optimizer": torch.optim.AdamW(made.parameters()), "model": made} | changes

def model_is_text():
    return setup_of(model="resnet")

def plan_is_number():
    return setup_of(plan=0.1)

def run_is_number():
    return setup_of(run=100)

def loss_is_number():
    return setup_of(loss=0.5)

def class_of_optimizer():
    return torch.optim.AdamW

def pair_without_optimizer():
    return model(), model()

def model_first():
    made = model()
    return made, torch.optim.AdamW(made.parameters())

def optimizer_first():
    return model_first()[::-1]

def leaves():
    raise SystemExit(3)

def plan_of_another_model():
    import torchdecay as td
    made = model()
    return {"optimizer": torch.optim.AdamW(td.param_groups(made, 0.1)), "plan": td.plan(other(), 0.1)}

class Stranger:
    def __init__(self, params):
        self.param_groups = [{"params": list(params), "rate": 0.1}]
    def step(self):
        pass

def stranger():
    return Stranger(model().parameters())

def wants_arguments(size):
    return model()
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of a user's own in the current folder; its name."""
    name = f"files_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def run(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def refused(*words: str) -> str:
    """The message of a command that exits with 2, prints nothing on stdout, and leaves no file behind."""
    before = set(Path().iterdir())
    result = run(*words, code=2)
    assert result.stdout == ""
    assert {path for path in set(Path().iterdir()) - before if path.name != "__pycache__"} == set()
    return result.stderr


def state() -> dict[str, torch.Tensor]:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).state_dict()


# Checkpoints of tensors


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "model.pth", "pytorch_model.bin", "last.ckpt"])
def test_a_checkpoint_of_tensors_has_a_plan(project: str, name: str) -> None:
    """By names and shapes, without the model; buffers are not parameters."""
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors.torch").save_file(state(), name)
    else:
        torch.save(state(), name)
    made = Plan.from_json(run("plan", name, "--json").stdout)
    assert {row.name for row in made.rows} == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert [row.name for row in made.rows if row.decay is not None] == ["0.weight"]


@pytest.mark.parametrize("part", ["state_dict", "model_state_dict", "model"])
def test_the_weights_inside_a_training_checkpoint(project: str, part: str) -> None:
    """Beside optimizer and epoch, under the names that people use."""
    torch.save({"epoch": 3, "optimizer": {"state": {}, "param_groups": []}, part: state()}, "run.pt")
    assert len(Plan.from_json(run("plan", "run.pt", "--json").stdout)) == 4


def test_the_old_format_of_torch_is_read(project: str) -> None:
    """Files from before torch 1.6 are no zip archives."""
    torch.save(state(), "old.pt", _use_new_zipfile_serialization=False)
    assert "1 of 4 parameters decay" in run("plan", "old.pt").stdout


def test_a_checkpoint_beside_its_model(project: str) -> None:
    """diff takes one as well; nothing differs but what only the model knows."""
    torch.save(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)).state_dict(), "model.pt")
    found = json.loads(CliRunner().invoke(main, ["diff", "model.pt", f"{project}:model", "--json"]).stdout)
    assert not found["added"] and not found["removed"]


class Evil:
    """Unpickling it makes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


def truncated(path: Path) -> None:
    torch.save(state(), path)
    path.write_bytes(path.read_bytes()[:-200])


def truncated_safetensors(path: Path) -> None:
    pytest.importorskip("safetensors.torch").save_file(state(), path)
    path.write_bytes(path.read_bytes()[:-20])


def bomb(path: Path) -> None:
    """A checkpoint packed again by hand, whose zeros take a thousandth of what they unpack to."""
    torch.save({"w": torch.zeros(2**23)}, path)
    with zipfile.ZipFile(path) as stored:
        entries = {entry.filename: stored.read(entry) for entry in stored.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    assert path.stat().st_size < 2**16


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "absent": ("no.pt", lambda path: None, "there is no file"),
    "a folder": ("folder.pt", lambda path: path.mkdir(), "there is no file"),
    "empty": ("empty.pt", lambda path: path.write_bytes(b""), "no checkpoint, or only a part"),
    "text": ("text.pt", lambda path: path.write_text("hello"), "no checkpoint, or only a part"),
    "truncated": ("cut.pt", truncated, "no checkpoint, or only a part"),
    "truncated safetensors": ("cut.safetensors", truncated_safetensors, "no checkpoint, or only a part"),
    "text as safetensors": ("t.safetensors", lambda path: path.write_text("hello"), "no checkpoint, or only a part"),
    "a bomb": ("bomb.pt", bomb, "would grow from"),
    "code": (
        "evil.pt",
        lambda path: torch.save({"w": torch.ones(1), "x": Evil()}, path),
        "posix.mkdir would be called",
    ),
    "a whole model": (
        "whole.pt",
        lambda path: torch.save(nn.Linear(2, 2), path),
        "torch.nn.modules.linear.Linear would be called",
    ),
    "a number": ("number.pt", lambda path: torch.save(3, path), "holds something of type int, and no weights"),
    "one tensor": ("tensor.pt", lambda path: torch.save(torch.ones(3), path), "of type Tensor, and no weights"),
    "an optimizer": (
        "opt.pt",
        lambda path: torch.save(torch.optim.AdamW(nn.Linear(2, 2).parameters()).state_dict(), path),
        'the keys "state", "param_groups"',
    ),
    "no names": ("index.pt", lambda path: torch.save({0: torch.ones(3)}, path), 'the keys "0"'),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_checkpoint_is_refused(project: str, what: str) -> None:
    """One message; no code of the file is run."""
    name, make, said = BAD[what]
    make(Path(name))
    assert said in refused("plan", name)
    assert not Path("owned").exists()


# Saved plans


def test_a_plan_is_saved_read_and_compared(project: str) -> None:
    """The golden file of a user's repository: written, shown, explained, and the same as today's model."""
    shown = run("plan", f"{project}:model", "--decay", "coupled:0.01", "--save", "plan.json").stdout
    assert run("plan", "plan.json").stdout == shown
    assert "coupled(0.01)" in run("explain", "plan.json", "0.weight").stdout
    assert "no difference" in run("diff", "plan.json", f"{project}:model", "--decay", "coupled:0.01").stdout
    assert run("diff", "plan.json", f"{project}:model", code=1).stdout.startswith("~ 0.weight: decay coupled(0.01)")
    assert [path.name for path in Path().glob("*plan*")] == ["plan.json"]


def test_a_grown_model_differs(project: str) -> None:
    """What was added, and exit code 1."""
    run("plan", f"{project}:model", "--save", "plan.json")
    assert "+ 2.weight: decoupled(0.1)" in run("diff", "plan.json", f"{project}:grown", code=1).stdout
    assert "- 2.weight: decoupled(0.1)" in run("diff", f"{project}:grown", "plan.json", code=1).stdout


def test_two_policies_on_one_model(project: str) -> None:
    """--rules for the first, --against for the second."""
    same = f"{project}:model"
    assert "no difference" in run("diff", same, same, "--rules", "timm", "--against", "standard").stdout
    found = run("diff", same, same, "--rules", "torch", "--against", "timm", code=1).stdout
    assert "~ 0.bias: decay decoupled(0.1) -> None" in found


def test_saving_replaces_all_or_nothing(project: str) -> None:
    """A plan that can't be made leaves the saved one alone; another suffix is a slip."""
    run("plan", f"{project}:model", "--save", "plan.json")
    before = Path("plan.json").read_text()
    assert "unknown decay" in refused("plan", f"{project}:model", "--decay", "decopled:1", "--save", "plan.json")
    assert "can't be written" in refused("plan", f"{project}:model", "--save", "plan.json/plan.json")
    assert "--save plan.json" in refused("plan", f"{project}:model", "--save", "plan.txt")
    assert Path("plan.json").read_text() == before


def test_saving_keeps_what_stands_there(project: str) -> None:
    """A plan goes beside another one unless that may be replaced, and beside anything else in any case."""
    save = ("plan", f"{project}:model", "--save")
    run(*save, "plan.json")
    first = Path("plan.json").read_text()
    assert "the plan is in plan-2.json" in run(*save, "plan.json", "--decay", "l1:1").stderr
    assert Path("plan.json").read_text() == first != Path("plan-2.json").read_text()
    assert run(*save, "plan.json", "--decay", "l1:1", "--overwrite").stderr == ""
    assert Path("plan.json").read_text() == Path("plan-2.json").read_text()
    Path("precious.json").write_text('{"mine": 1}')
    run(*save, "precious.json", "--overwrite")
    assert Path("precious.json").read_text() == '{"mine": 1}' and Path("precious-2.json").exists()


def edited(change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(Path("plan.json").read_text())
    change(data)
    Path("plan.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.update(version=99), "version 99"),
        (lambda data: data.update(format="other"), "not a plan file"),
        (lambda data: data.pop("rows"), "lacks rows"),
        (lambda data: data["rows"][0].update(names=[]), "without a name"),
        (lambda data: data["rows"].append(data["rows"][0]), "twice"),
        (lambda data: data["rows"][0]["decay"].update(coefficient=-1), "outside its range"),
        (lambda data: data["rows"][0]["decay"].update(site="nowhere"), "nowhere"),
        (lambda data: data["rows"][0]["decay"].update(surprise=1), "surprise"),
    ],
)
def test_a_plan_edited_by_hand_is_refused(project: str, change: Callable[[dict[str, Any]], object], said: str) -> None:
    """With the file and what is wrong in it."""
    run("plan", f"{project}:model", "--save", "plan.json")
    edited(change)
    for words in (["plan", "plan.json"], ["diff", "plan.json", f"{project}:model"]):
        message = refused(*words)
        assert said in message and "plan.json" in message


def test_a_plan_of_another_model_is_refused(project: str) -> None:
    """No parameter in common is a mistake, not a difference; two models may well have none."""
    run("plan", f"{project}:model", "--save", "plan.json")
    assert "no parameter in common" in refused("diff", "plan.json", f"{project}:other")
    run("diff", f"{project}:model", f"{project}:other", code=1)


# What a setup returns


@pytest.mark.parametrize("command", ["audit", "verify"])
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("model_is_text", "gives a str as model"),
        ("plan_is_number", "gives a float as plan"),
        ("run_is_number", "gives an int as run"),
        ("loss_is_number", "gives a float as loss"),
        ("class_of_optimizer", "not an optimizer"),
        ("pair_without_optimizer", "not an optimizer"),
        ("leaves", "SystemExit(3)"),
        ("wants_arguments", "called without arguments"),
    ],
)
def test_what_a_setup_must_not_return(project: str, command: str, target: str, said: str) -> None:
    """One message that names it."""
    assert said in refused(command, f"{project}:{target}")


def test_a_pair_comes_in_either_order(project: str) -> None:
    """(optimizer, model) as documented, and (model, optimizer) as most people write it."""
    said = [run("audit", f"{project}:{name}", code=1).stdout for name in ("optimizer_first", "model_first")]
    assert said[0] == said[1]


def test_a_plan_of_another_model_beside_an_optimizer(project: str) -> None:
    """verify can't measure against it; audit says that its rows are in no optimizer."""
    assert "no row for" in refused("verify", f"{project}:plan_of_another_model")
    assert "WD208 error" in run("audit", f"{project}:plan_of_another_model", code=1).stdout


def test_an_optimizer_of_an_unknown_library(project: str) -> None:
    """It has groups and a step: audit reads what is there."""
    assert "0 errors" in run("audit", f"{project}:stranger").stdout


# Files of results


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return every_result()


@pytest.mark.parametrize("kind", sorted({*CLASSES} - {"comparison", "sweep", "run"}))
def test_report_takes_any_file_by_what_it_says_it_is(results: dict[str, Any], kind: str, project: str) -> None:
    """Whatever the file is called; the page stands beside it, and the file comes back as the value that was written."""
    path = Path("what")
    if kind == "history":
        results[kind].save(path)
    else:
        path.write_text(results[kind].to_json())
    assert load_result(path) == results[kind]
    assert run("report", "what").stdout.strip() == "Page: what.html"
    assert Path("what.html").read_text().startswith("<!DOCTYPE html>")


def test_every_kind_of_file_has_its_class() -> None:
    """A kind that is added later can be read and reported too."""
    for name in CLASSES.values():
        importlib.import_module(f"torchdecay.{name.partition(':')[0]}")
    ours = [cls for cls in JsonRecord.__subclasses__() if cls.__module__.startswith("torchdecay.")]
    below = [cls for one in ours for cls in (one, *one.__subclasses__())]
    kinds = {cls._kind.name for cls in below if "_kind" in vars(cls)}
    assert kinds | {"history"} == {*CLASSES, "baseline"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "does not say that torchdecay wrote it"),
        ("<!doctype html>", "it is a page, made for a browser"),
        ('{"format": "torchdecay.poem", "version": 1}', "it is a poem"),
        ('{"format": "torchdecay.audit", "version": 9}', "of version 9"),
        ('{"format": "torchdecay.baseline", "version": 1}', "it is a baseline, no result"),
        ('{"format": "torchdecay.sweep", "version": 1}', "incomplete"),
    ],
)
def test_report_refuses_what_it_can_not_read(project: str, text: str, said: str) -> None:
    """Told with the file's name; no page is written."""
    Path("x.json").write_text(text)
    message = refused("report", "x.json")
    assert said in message and "x.json" in message and not Path("x.html").exists()


@pytest.mark.parametrize(
    ("words", "word"),
    [
        ("plan x --rules ni", []),
        ("plan x --rules ti", ["timm"]),
        ("sweep x --engine s", ["serial", "stacked"]),
        ("compare di", ["digits"]),
    ],
)
def test_the_shell_completes_what_tables_know(words: str, word: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules, engines, searches and tasks, from the tables that the package itself reads."""
    *before, half = words.split()
    found = ShellComplete(main, {}, "torchdecay", "_TORCHDECAY_COMPLETE").get_completions(before, half)
    assert [item.value for item in found] == word
