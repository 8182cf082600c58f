"""audit, verify and diff on the command line: what they print, and the exit codes that scripts rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from torchdecay.cli import main

PROJECT = """
import torch

def model():
    return torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))

def careless():
    made = model()
    return torch.optim.AdamW(made.parameters(), weight_decay=0.1), made

def careful():
    import torchdecay as td
    made = model()
    return {"optimizer": torch.optim.AdamW(td.param_groups(made, 0.1)), "model": made}

class Deaf(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            group["weight_decay"], kept = 0.0, group["weight_decay"]
            super().step()
            group["weight_decay"] = kept

def deaf():
    return Deaf(model().parameters(), lr=0.1, weight_decay=0.1)

def alone():
    return torch.optim.AdamW(model().parameters(), lr=1e-3, weight_decay=0.1)

net = model()

def of_net():
    return torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.1)

def pair():
    one, other = model(), torch.nn.Linear(4, 4)
    made = torch.optim.AdamW([*one.parameters(), *other.parameters()], weight_decay=0.1)
    return {"optimizer": made, "model": [one, other]}

def adversaries():
    models = {"actor": model(), "critic": model()}
    return {"optimizer": two(models.values()), "model": models}

def two(models=()):
    one, other = models or (model(), model())
    return tuple(torch.optim.AdamW(each.parameters(), weight_decay=0.1) for each in (one, other))

def number():
    return 3

def broken():
    raise RuntimeError("no data here")

def misspelled():
    return {"optimizer": careless()[0], "modle": None}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of a user's own, with a name of its own so that no other test has imported it."""
    name = f"setups_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(PROJECT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_audit_finds_and_says_so_by_its_exit_code(project: str) -> None:
    found = run("audit", f"{project}:careless")
    assert found.exit_code == 1
    assert "WD101 warning" in found.output
    clean = run("audit", f"{project}:careful")
    assert clean.exit_code == 0, clean.output


def test_audit_selects_ignores_and_speaks_json_and_github(project: str) -> None:
    assert run("audit", f"{project}:careless", "--ignore", "WD101").exit_code == 0
    found = run("audit", f"{project}:careless", "--select", "WD1", "--json")
    assert {one["code"] for one in json.loads(found.stdout)["findings"]} == {"WD101", "WD102"}
    annotations = run("audit", f"{project}:careless", "--format", "github").stdout
    assert annotations.startswith("::warning title=WD101")


def test_verify_measures(project: str) -> None:
    assert run("verify", f"{project}:careful").exit_code == 0
    deaf = run("verify", f"{project}:deaf")
    assert deaf.exit_code == 1, deaf.output


@pytest.mark.parametrize("command", ["audit", "verify"])
@pytest.mark.parametrize(
    ("target", "said"),
    [("number", "not an optimizer"), ("broken", "no data here"), ("misspelled", "modle"), ("nothing", "nothing")],
)
def test_what_is_no_optimizer_is_wrong_use(project: str, command: str, target: str, said: str) -> None:
    found = run(command, f"{project}:{target}")
    assert found.exit_code == 2
    assert said in found.output
    assert "Traceback" not in found.output


def test_diff_compares_a_saved_plan_with_todays_model(project: str, tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"
    saved.write_text(run("plan", f"{project}:model", "--json").stdout, encoding="utf-8")
    same = run("diff", str(saved), f"{project}:model")
    assert same.exit_code == 0, same.output
    other = run("diff", str(saved), f"{project}:model", "--against", "torch", "--json")
    assert other.exit_code == 1
    assert len(json.loads(other.stdout)["changed"]) == 4


@pytest.mark.parametrize("text", ["", "{", '{"format": "torchdecay.plan", "version": 99}', "[1]"])
def test_a_plan_file_that_is_none_is_wrong_use(project: str, tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text, encoding="utf-8")
    found = run("diff", "bad.json", f"{project}:model")
    assert found.exit_code == 2
    assert "Traceback" not in found.output
    assert run("diff", "absent.json", f"{project}:model").exit_code == 2


def test_audit_without_a_model_guesses_and_says_so(project: str) -> None:
    """All clear must not mean that nothing could be seen."""
    found = run("audit", f"{project}:alone")
    assert found.exit_code == 1
    assert "a bias, norm or scale by its shape" in found.output
    assert "not looked into: WD101 (needs model=; guessed from shapes)" in found.output


def test_audit_takes_the_model_that_stands_beside_the_optimizer(project: str) -> None:
    """The module's own, where the optimizer has its parameters, and it says which."""
    found = run("audit", f"{project}:of_net", "--json")
    names = [name for one in json.loads(found.stdout)["findings"] if one["code"] == "WD101" for name in one["names"]]
    assert names == ["1.bias", "2.weight", "2.bias"]
    assert f"The model is {project}.net" in found.stderr


def test_audit_takes_several_models(project: str) -> None:
    assert "WD104" not in run("audit", f"{project}:pair").output


def test_audit_is_told_the_run_as_forecast_is(project: str) -> None:
    """By the same options; a run without a length is wrong use."""
    found = run("audit", f"{project}:careful", "--steps", "100")
    assert "WD306" in found.output and "needs run=" not in found.output
    long_epochs = ("--epochs", "3", "--batch-size", "1", "--num-samples", "1000000")
    assert "WD305" in run("audit", f"{project}:careful", *long_epochs).output
    wrong = run("audit", f"{project}:careful", "--lr", "1e-3")
    assert wrong.exit_code == 2 and "neither steps nor epochs" in wrong.output


@pytest.mark.parametrize("command", ["audit", "verify"])
@pytest.mark.parametrize("target", ["train.py", "./scripts/train.py", "exits:optimizer", "exits.py"])
def test_a_script_gets_a_way_that_leads_on(project: str, tmp_path: Path, command: str, target: str) -> None:
    """A line for its loop, or a function and how to name it; nothing is run, and nobody speaks of a task."""
    (tmp_path / "exits.py").write_text("import argparse\nargparse.ArgumentParser().parse_args(['--no'])\n")
    found = run(command, target)
    assert found.exit_code == 2 and not found.stdout
    assert "print(td.audit(optimizer, model=model))" in " ".join(found.stderr.split())
    assert "task" not in found.stderr


def test_models_and_optimizers_come_alone_or_several(project: str) -> None:
    """In lists, tuples and dicts, as Python takes them; a name that two models have says whose it is."""
    done = CliRunner().invoke(main, ["audit", f"{project}:adversaries", "--json"])
    found = [one for one in json.loads(done.stdout)["findings"] if one["code"] == "WD101"]
    assert {"2.bias", "critic.2.bias"} <= {name for one in found for name in one["names"]}
    done = CliRunner().invoke(main, ["verify", f"{project}:two", "--json"])
    assert done.exit_code == 0 and len(json.loads(done.stdout)["groups"]) == 2
