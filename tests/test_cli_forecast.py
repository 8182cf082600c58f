"""torchdecay forecast: setups, models and saved plans, their runs, and what is answered to wrong use."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from torchdecay.cli import main

ROOT = Path(__file__).parents[1]
PROJECT = """
import torch
import torchdecay as td

def model():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8))

def setup():
    made = model()
    return torch.optim.AdamW(td.param_groups(made, 0.1), lr=1e-2), made

def planned():
    made = model()
    plan = td.plan(made, td.independent(0.001))
    optimizer = torch.optim.AdamW(plan.param_groups(made), lr=1e-2)
    return {"optimizer": optimizer, "model": made, "plan": plan, "run": td.Run(steps=50)}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of a user's own, with a name of its own so that no other test has imported it."""
    name = f"forecasts_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(PROJECT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ("forecast", *words))


def test_a_setup_and_a_run(project: str) -> None:
    """Epochs become steps, and the name of a schedule is enough."""
    done = run(
        f"{project}:setup", "--epochs", "2", "--batch-size", "10", "--num-samples", "1000", "--schedule", "cosine"
    )
    assert done.exit_code == 0, done.output
    assert "Run: 200 steps, 2 epochs of 100; learning rate: cosine." in done.output


def test_a_setup_s_own_plan_and_run_and_one_option_on_top(project: str) -> None:
    said = json.loads(run(f"{project}:planned", "--json").stdout)
    assert (said["num_steps"], said["groups"][0]["decay"]) == (50, "independent(0.001)")
    said = json.loads(run(f"{project}:planned", "--steps", "70", "--json").stdout)
    assert said["num_steps"] == 70


def test_a_model_a_saved_plan_and_an_optimizer_by_name(project: str, tmp_path: Path) -> None:
    """The plan says the same as the model that it was made from; without an optimizer, native decay is unknown."""
    rest = ("--lr", "0.01", "--steps", "100", "--json")
    model = run(f"{project}:model", "--decay", "native:0.1", "--optimizer", "adamw", *rest)
    saved = CliRunner().invoke(main, ("plan", f"{project}:model", "--decay", "native:0.1", "--save", "plan.json"))
    assert saved.exit_code == 0
    again = run("plan.json", "--optimizer", "AdamW", *rest)
    assert model.exit_code == 0 and model.stdout == again.stdout
    assert json.loads(run("plan.json", *rest).stdout)["groups"][0]["prediction"] == "unknown"


def test_the_figure_is_written(project: str, tmp_path: Path) -> None:
    assert run(f"{project}:setup", "--steps", "10", "--figure", "out.svg").exit_code == 0
    assert (tmp_path / "out.svg").read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("setup",), "neither steps nor epochs"),
        (("setup", "--steps", "10", "--schedule", "cosin"), 'Nearest: "cosine"'),
        (("setup", "--steps", "10", "--lr", "3"), "run and optimizer disagree"),
        (("setup", "--steps", "10", "--lr", "-1"), "lr is -1"),
        (("setup", "--steps", "10", "--optimizer", "AdamW"), "--decay decoupled:0.1 for a model"),
        (("model", "--steps", "10"), "--decay decoupled:0.1"),
        (("model", "--decay", "native:0.1", "--steps", "10", "--lr", "1", "--optimizer", "AdmW"), 'Nearest: "AdamW"'),
        (("model", "--decay", "decoupled:0.1", "--steps", "10"), "no learning rate"),
        (("setup", "--steps", "10", "--figure", "out.pdf"), "in .svg or .png"),
    ],
    ids=lambda value: "-".join(value).replace("--", "") if isinstance(value, tuple) else None,
)
def test_wrong_use(project: str, words: tuple[str, ...], said: str) -> None:
    """Exit code 2, what was wrong, and what to write."""
    done = run(f"{project}:{words[0]}", *words[1:])
    assert done.exit_code == 2 and said in done.output


def test_the_picture_of_the_page_is_of_today() -> None:
    """It says in words what it shows, and that is what forecast says now."""
    spec = importlib.util.spec_from_file_location("forecast_figure", ROOT / "docs" / "figures" / "forecast.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    said = module.forecast()
    for name in ("forecast.svg", "forecast-dark.svg"):
        picture = (ROOT / "docs" / "assets" / name).read_text(encoding="utf-8")
        for group in said:
            left = float(f"{group.retention_at(1000):.3g}")
            assert f"{group.decay}: {group.names[0]} leaves {left:g}" in picture
