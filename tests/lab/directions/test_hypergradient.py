"""Slopes of the validation loss in each group's coefficient: exact where that can be known, refused where it can't."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchdecay as td
from torchdecay.errors import PlanError, TaskError
from torchdecay.lab.directions.conjugate import solve
from torchdecay.lab.directions.fixed_point import pulls_of
from torchdecay.lab.directions.hypergradient import Hypergradient, hypergradient
from torchdecay.lab.tasks import ridge
from torchdecay.lab.tasks.task import Data, model_of
from torchdecay.lab.training.contenders import as_contender
from torchdecay.lab.training.setup import Setup

pytestmark = pytest.mark.long

COLUMNS = ridge.COLUMNS
FIRST = COLUMNS // 2


class Halves(nn.Module):
    """The ridge regression with its weights in two parameters, so that there are two coefficients."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(FIRST, 1, bias=False, dtype=torch.float64)
        self.head = nn.Linear(COLUMNS - FIRST, 1, bias=False, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x[:, :FIRST]) + self.head(x[:, FIRST:])


def solved(log_wd: Tensor, data: Data) -> Tensor:
    """The weights at rest under two coefficients, differentiable in their logarithms."""
    x, y = data.train
    wd = log_wd.exp().repeat_interleave(torch.tensor([FIRST, COLUMNS - FIRST]))
    return torch.linalg.solve(x.T @ x / len(x) + torch.diag(wd), x.T @ y / len(x))


def exact(wd: tuple[float, float], data: Data) -> list[float]:
    """The slopes, by differentiating the closed form: another road than the one under test."""
    log_wd = torch.tensor(wd, dtype=torch.float64).log().requires_grad_()
    x, y = data.validation or data.test
    loss = (x @ solved(log_wd, data) - y).square().mean() / 2
    return torch.autograd.grad(loss, log_wd)[0].tolist()


def at_rest(wd: tuple[float, float], seed: int = 0) -> tuple[Halves, Data]:
    model, data = Halves(), ridge.data(seed)
    weights = solved(torch.tensor(wd, dtype=torch.float64).log(), data)
    with torch.no_grad():
        model.body.weight.copy_(weights[:FIRST])
        model.head.weight.copy_(weights[FIRST:])
    return model, data


def found(model: nn.Module, data: Data, plan: td.Plan, **options: Any) -> Hypergradient:
    def loss(rows: Any) -> Any:
        return lambda: ridge.half_mse(model(rows[0]), rows[1])

    return hypergradient(model, plan, loss(data.train), loss(data.validation), **options)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("wd", [(0.1, 0.1), (0.03, 3.0), (10.0, 1e-4)])
def test_slopes_are_those_of_the_closed_form(wd: tuple[float, float], seed: int) -> None:
    """Two groups with coefficients of their own, in float64 to 1e-9: a quarter of the sum would already be off."""
    model, data = at_rest(wd, seed)
    plan = td.plan(model, td.coupled(wd[0]), rules=[("head.*", td.coupled(wd[1]))])
    got = found(model, data, plan)
    assert got.converged and got.unrest < 1e-10
    assert [got["body"], got["head"]] == pytest.approx(exact(wd, data), abs=1e-9, rel=1e-9)


def test_the_exact_slope_is_that_of_training_again() -> None:
    """The reference itself: a little more and a little less decay, by the closed form of the task."""
    data = ridge.data(0)
    assert data.validation is not None
    x, y = data.validation

    def loss(wd: float) -> float:
        return float((x @ ridge.solution(0, wd) - y).square().mean() / 2)

    slope = (loss(0.1 * 1.001) - loss(0.1 / 1.001)) / (2 * 0.0009995003330835332)
    assert sum(exact((0.1, 0.1), data)) == pytest.approx(slope, rel=1e-5)


def in_float32(model: nn.Module, data: Data) -> tuple[nn.Module, Data]:
    parts = {part: (x.float(), y.float()) for part, (x, y) in data.parts.items()}
    return model.float(), Data(**parts)


def test_float32_is_good_to_a_thousandth() -> None:
    """The tolerance follows the precision, so that the search does not run on in the rounding."""
    model, data = at_rest((0.3, 0.3))
    wanted = exact((0.3, 0.3), data)
    model, data = in_float32(model, data)
    got = found(model, data, td.plan(model, td.coupled(0.3)))
    # Slopes are differences of larger numbers, so it is beside the loss, about 12, that they are good.
    assert got.converged and [got["body"], got["head"]] == pytest.approx(wanted, abs=1e-3)


# ── What balances the gradient, for each form and optimizer ──

DECAYS = {
    "coupled": td.coupled(0.2),
    "native": td.native(0.2),
    "penalized": td.penalized(0.2),
    "decoupled": td.decoupled(0.2),
    "independent": td.independent(0.01),
    "per step": td.per_step(0.01),
    "corrected": td.corrected(0.2),
}


MOMENTA: list[dict[str, float]] = [{"momentum": 0.5}, {"momentum": 0.5, "dampening": 0.2}]
RUNS = [(name, {}) for name in DECAYS] + [(name, options) for name in ("coupled", "decoupled") for options in MOMENTA]


@pytest.mark.parametrize(("form", "options"), RUNS, ids=str)
def test_training_comes_to_rest_where_the_pull_says(form: str, options: dict[str, float]) -> None:
    """After real steps of SGD the gradient and k·w cancel to 1e-9, for every form that is accepted."""
    task = dataclasses.replace(ridge.ridge(), optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, **options))
    setup = Setup.make(task, model_of(task, 0), as_contender(DECAYS[form]))
    x, y = task.data(0).train
    weight = setup.model.weight
    for _ in range(500):
        setup.optimizer.zero_grad()
        loss = task.loss(setup.model(x), y)
        assert setup.handle is not None
        (loss + setup.handle.penalty(setup.model)).backward()
        setup.optimizer.step()
    pull = pulls_of(setup.model, setup.plan, setup.optimizer)["weight"]
    gradient = torch.autograd.grad(task.loss(setup.model(x), y), weight)[0]
    assert float((gradient + pull * weight.detach()).norm()) < 1e-9 * float((pull * weight.detach()).norm())


ADAMW = "whose size follows the history of the gradients"
REFUSED = {
    "decoupled, AdamW": (td.decoupled(0.1), torch.optim.AdamW, ADAMW),
    "native, AdamW": (td.native(0.1), torch.optim.AdamW, ADAMW),
    "l1": (td.l1(0.1), torch.optim.SGD, "It is for plain L2 toward zero"),
    "cautious": (td.cautious(0.1), torch.optim.SGD, "It is for plain L2 toward zero"),
    "toward": (td.toward("initial", 0.1), torch.optim.SGD, "It is for plain L2 toward zero"),
    "schedule": (td.coupled(0.1, schedule=td.schedules.linear(1.0, 0.5, 10)), torch.optim.SGD, "on a schedule"),
    "nothing": (None, torch.optim.SGD, "nothing decays"),
    "zero": (0.0, torch.optim.SGD, "nothing decays"),
}


@pytest.mark.parametrize(("decay", "optimizer", "said"), REFUSED.values(), ids=REFUSED)
def test_a_decay_without_a_known_place_of_rest_is_refused(decay: Any, optimizer: Any, said: str) -> None:
    """A slope that can't be justified is not given; the message says why and what to do instead."""
    model, data = at_rest((0.1, 0.1))
    plan = td.plan(model, decay)
    with pytest.raises(TaskError, match=said):
        found(model, data, plan, optimizer=optimizer(plan.param_groups(model), lr=0.1))


def test_adam_with_decay_in_the_gradient_is_taken() -> None:
    """Where it comes to rest the gradient of loss and penalty is zero, under any optimizer."""
    model, data = at_rest((0.1, 0.1))
    plan = td.plan(model, td.native(0.1))
    got = found(model, data, plan, optimizer=torch.optim.Adam(plan.param_groups(model), lr=0.1))
    assert [got["body"], got["head"]] == pytest.approx(exact((0.1, 0.1), data), rel=1e-9)


# ── Where it should not be believed ──


def test_a_run_that_has_not_come_to_rest_shows_in_unrest() -> None:
    """Weights of another coefficient: the gradient and the pull do not cancel."""
    model, data = at_rest((0.1, 0.1))
    assert found(model, data, td.plan(model, td.coupled(1.0))).unrest > 0.5


def test_too_few_iterations_are_told() -> None:
    """Two of about twenty."""
    model, data = at_rest((0.1, 0.1))
    got = found(model, data, td.plan(model, td.coupled(0.1)), max_iterations=2)
    assert not got.converged and got.iterations == 2 and got.residual > 1e-3


def test_a_place_that_is_no_minimum_is_told_and_damping_gets_over_it() -> None:
    """A saddle: curvature −1 in one direction; damping 1.5 makes the system positive, and shows in the slopes."""
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    plan = td.plan(model, td.coupled(0.1))

    def train_loss() -> Tensor:
        a, b = model.weight[0]
        return (3 * a * a - 1.1 * b * b) / 2

    def validation_loss() -> Tensor:
        return model.weight.sum()

    got = hypergradient(model, plan, train_loss, validation_loss)
    assert not got.converged and got.curvature < 0
    damped = hypergradient(model, plan, train_loss, validation_loss, damping=1.5)
    assert damped.converged and damped.damping == 1.5 and damped.curvature == pytest.approx(-1.0, abs=0.05)
    a, b = model.weight.detach()[0]
    assert damped["weight"] == pytest.approx(float(-0.1 * (a / 4.6 + b / 0.5)), rel=1e-9)


@pytest.mark.parametrize("loss", [lambda: torch.tensor(1.0), lambda: 1.0, lambda: torch.ones(2, requires_grad=True)])
def test_a_loss_that_does_not_depend_on_the_model_is_told(loss: Any) -> None:
    """Computed under no_grad, a float, or one per row."""
    model, _ = at_rest((0.1, 0.1))
    with pytest.raises(TaskError, match="gives no loss that depends on the model"):
        hypergradient(model, td.plan(model, td.coupled(0.1)), loss, loss)


# ── Groups ──


def test_groups_add_up_and_the_first_that_picks_has_it() -> None:
    """By selectors; all in one group is the sum of its parts."""
    model, data = at_rest((0.1, 0.1))
    plan = td.plan(model, td.coupled(0.1))
    apart = found(model, data, plan, groups={"end": "head.*", "rest": "*"})
    whole = found(model, data, plan, groups={"all": "*"})
    assert [one.names for one in apart.slopes] == [("head.weight",), ("body.weight",)]
    assert whole["all"] == pytest.approx(apart["end"] + apart["rest"], rel=1e-12)
    with pytest.raises(TaskError, match='no group "head"'):
        apart["head"]


@pytest.mark.parametrize(
    ("groups", "error", "said"),
    [
        ({"end": "head.*"}, TaskError, "in no group: \"body.weight\""),
        ({"end": "head.*", "rest": "*"}, TaskError, 'group "end" has no parameter that decays'),
        ({"end": "haed.*", "rest": "*"}, PlanError, "matches no parameter"),
    ],
    ids=["lost", "empty", "typo"],
)  # fmt: skip
def test_groups_that_do_not_fit_are_told(groups: dict[str, str], error: type[Exception], said: str) -> None:
    """Left out, spared by the plan, misspelled."""
    model, data = at_rest((0.1, 0.1))
    spared = [("head.*", None)] if "rest" in groups and "end" in groups else []
    with pytest.raises(error, match=said):
        found(model, data, td.plan(model, td.coupled(0.1), rules=spared), groups=groups)


def test_what_is_spared_or_frozen_has_no_slope_but_moves_along() -> None:
    """A bias does not decay, yet the weights at rest depend on it: the slope is that of both together."""
    torch.manual_seed(3)
    model = nn.Linear(2, 1, dtype=torch.float64)
    x, y = torch.randn(12, 2).double() + 2, torch.randn(12).double()
    ones = torch.cat([x, torch.ones(12, 1).double()], 1)
    log_wd = torch.tensor(0.5, dtype=torch.float64).log().requires_grad_()
    mask = torch.diag(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
    weights = torch.linalg.solve(ones.T @ ones / 12 + log_wd.exp() * mask, ones.T @ y / 12)
    wanted = torch.autograd.grad((ones[:4] @ weights).square().mean(), log_wd)[0]
    with torch.no_grad():
        model.weight.copy_(weights[:2])
        model.bias.copy_(weights[2:])
    got = hypergradient(
        model,
        td.plan(model, td.coupled(0.5)),
        lambda: ridge.half_mse(model(x), y),
        lambda: model(x[:4]).square().mean(),
    )
    assert [one.names for one in got.slopes] == [("weight",)]
    assert got["weight"] == pytest.approx(float(wanted), rel=1e-9)


def test_conjugate_gradients_solve_a_system_in_as_many_steps_as_it_has_eigenvalues() -> None:
    """And the residual is that of the answer, not what the recurrence believes."""
    basis = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    matrix = basis @ torch.diag(torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0, 5.0], dtype=torch.float64)) @ basis.T
    b = torch.randn(6, dtype=torch.float64)
    got = solve(lambda v: matrix @ v, b, tolerance=1e-12, max_iterations=50)
    assert got.converged and got.iterations == 3
    assert got.residual == pytest.approx(float((matrix @ got.x - b).norm() / b.norm()), abs=1e-15)
    nothing = solve(lambda v: matrix @ v, torch.zeros(6), tolerance=1e-12, max_iterations=50)
    assert nothing.converged and nothing.iterations == 0
