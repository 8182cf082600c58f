"""Which way to move: claimed where it is sure, by the implicit road where that holds, else by trying."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

import torchdecay as td
from torchdecay.errors import TaskError
from torchdecay.lab.directions.direction import direction
from torchdecay.lab.directions.hypergradient import Hypergradient, Slope
from torchdecay.lab.directions.result import Direction, SeedSlopes
from torchdecay.lab.tasks import ridge
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.train import train


@pytest.fixture(scope="module")
def task() -> Task:
    """Ridge regression that is at rest after 250 steps to one part in a million."""
    sgd = lambda groups: torch.optim.SGD(groups, lr=0.1)  # noqa: E731
    return dataclasses.replace(ridge.ridge(), num_steps=250, eval_every=250, optimizer=sgd)


def exact(wd: float, seed: int) -> float:
    """DV/d ln λ of the closed form."""
    x, y = ridge.data(seed).train
    log_wd = torch.tensor(math.log(wd), dtype=torch.float64, requires_grad=True)
    hessian = x.T @ x / len(x) + log_wd.exp() * torch.eye(ridge.COLUMNS, dtype=x.dtype)
    weights = torch.linalg.solve(hessian, x.T @ y / len(x))
    validation = ridge.data(seed).validation
    assert validation is not None
    loss = (validation[0] @ weights - validation[1]).square().mean() / 2
    return float(torch.autograd.grad(loss, log_wd)[0])


def test_at_the_end_of_real_runs_the_slopes_are_exact_to_a_millionth(task: Task) -> None:
    """Trained by the lab's own loop, against the closed form; more decay than 5 is worse in every draw."""
    found = direction(task, "native:5", seeds=3)
    assert found.method == "implicit" and not found.why_not
    for seed, one in zip(found.seeds, found.by_seed, strict=True):
        assert dict(one.slopes)["weight"] == pytest.approx(exact(5.0, seed), abs=1e-6)
    assert [group.move for group in found.groups] == ["weaker"]
    assert td.verdict(found) == "Against native(5), decay should be weaker on weight."
    assert "weight: doubling changes the validation loss by about +" in str(found)


def test_trying_agrees_with_the_implicit_road(task: Task) -> None:
    """A finite move of 1.5 up and down, so within a few percent."""
    tried = direction(task, "decoupled:5", seeds=1, method="differences")
    assert tried.method == "differences" and tried.by_seed[0].solution is None
    assert dict(tried.by_seed[0].slopes)["weight"] == pytest.approx(exact(5.0, 0), rel=0.05)
    assert "One seed" in td.verdict(tried)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(ridge.COLUMNS, 3), nn.Tanh(), nn.Linear(3, 1)).double()


def test_where_rest_is_not_known_values_are_tried_instead(task: Task) -> None:
    """AdamW with decay apart from the gradient, one slope per layer; asked for by name, the road is refused."""
    adamw = lambda groups: torch.optim.AdamW(groups, lr=1e-2)  # noqa: E731
    other = dataclasses.replace(task, num_steps=20, eval_every=20, optimizer=adamw, model=network)
    found = direction(other, "decoupled:5", seeds=1)
    assert found.method == "differences" and [one.group for one in found.groups] == ["0", "2"]

    def loss(layer: str, value: float) -> float:
        plan = found_plan(other, layer, value)
        return train(other, plan, seed=0, with_line=False).validation_loss[-1]  # type: ignore[index]

    slope = (loss("0", 7.5) - loss("0", 5 / 1.5)) / (2 * math.log(1.5))
    assert dict(found.by_seed[0].slopes)["0"] == pytest.approx(slope, rel=1e-9)
    with pytest.raises(TaskError, match="history of the gradients"):
        direction(other, "decoupled:5", seeds=1, method="implicit")


def found_plan(task: Task, layer: str, value: float) -> Any:

    rules = [(f"{layer}.weight", td.decoupled(value)), ("*.bias", None)]
    return td.plan(task.model(), td.decoupled(5.0), rules=rules)


def test_a_run_that_is_too_short_claims_nothing(task: Task) -> None:
    """Three steps end nowhere near rest, and the sentence says so."""
    found = direction(dataclasses.replace(task, num_steps=3), "native:0.1", seeds=2)
    assert "has not come to rest" in found.why_not and td.verdict(found).startswith("No direction: training has not")
    assert {group.move for group in found.groups} == {""}


def test_a_network_that_ends_in_no_minimum_claims_nothing(task: Task) -> None:
    """After five steps a network's loss curves down somewhere."""
    found = direction(dataclasses.replace(task, model=network, num_steps=5), "native:0.001", seeds=1)
    assert "set damping above" in td.verdict(found) or "has not come to rest" in td.verdict(found)
    assert {group.move for group in found.groups} == {""}


@pytest.mark.parametrize(
    ("decay", "options", "said"),
    [
        ("none", {}, "nothing decays"),
        ("none", {"method": "implicit"}, "nothing decays"),
        ("native:1", {"method": "implict"}, 'Nearest: "implicit"'),
        ("native:1", {"groups": {"head": "2.*"}}, "2.*"),
    ],
)
def test_what_can_not_be_asked_is_told(task: Task, decay: str, options: dict[str, Any], said: str) -> None:
    """Nothing to move, an unknown method, a group that picks nothing."""
    with pytest.raises(ValueError, match=said):
        direction(dataclasses.replace(task, num_steps=2), decay, seeds=1, **options)


# ── What is claimed ──


def result(*slopes: tuple[float, float], **changes: Any) -> Direction:
    """Seeds with slopes of a head and a body, of solved runs at rest with loss 2."""
    by_seed = []
    for head, body in slopes:
        solution = Hypergradient(
            slopes=(Slope(group="head", names=("h",), slope=head), Slope(group="body", names=("b",), slope=body)),
            loss=2.0,
            residual=1e-12,
            iterations=9,
            converged=True,
            curvature=0.1,
            unrest=1e-3,
            damping=0.0,
        )
        by_seed.append(SeedSlopes.of(dataclasses.replace(solution, **changes)))
    return Direction(
        task="t", decay="coupled(1)", method="implicit", seeds=tuple(range(len(slopes))), by_seed=tuple(by_seed)
    )


def test_both_moves_in_one_sentence() -> None:
    """What it is all for: stronger here, weaker there."""
    found = result((-0.3, 0.2), (-0.31, 0.22), (-0.29, 0.18))
    assert td.verdict(found) == "Against coupled(1), decay should be stronger on head, weaker on body."
    assert found.groups[0].mean == pytest.approx(-0.15)  # relative to the loss


@pytest.mark.parametrize(
    ("slopes", "changes"),
    [
        ([(-0.3, 0.2), (0.3, -0.2), (0.1, -0.1)], {}),
        ([(-1e-4, 1e-4), (-1e-4, 1e-4)], {}),
        ([(-0.3, 0.2), (-0.31, 0.22)], {"converged": False, "residual": 0.5}),
        ([(-0.3, 0.2), (-0.31, 0.22)], {"converged": False, "curvature": -0.2}),
        ([(-0.3, 0.2), (-0.31, 0.22)], {"unrest": 0.2}),
    ],
    ids=["seeds disagree", "too small", "not solved", "no minimum", "not at rest"],
)
def test_nothing_is_claimed_that_is_not_sure(slopes: list[tuple[float, float]], changes: dict[str, Any]) -> None:
    """Each reason by itself is enough."""
    found = result(*slopes, **changes)
    assert {group.move for group in found.groups} == {""}
    assert td.verdict(found).startswith("No ")
