"""The loss along a line through a solution, and the penalty beside it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from torchdecay.lab.tasks.task import Data, Task, evaluate, model_of
from torchdecay.lab.training.contenders import as_contender
from torchdecay.lab.training.line_scan import ALPHAS, _illustration, penalty_factor
from torchdecay.lab.training.results import LineScan
from torchdecay.lab.training.setup import Setup
from torchdecay.lab.training.train import train
from torchdecay.plans.spelling import parse_decay


@pytest.fixture
def quadratic() -> Task:
    """½·mean((x·w − y)²) with x = 1 and y = 2: the loss is ½(w − 2)², and with decay λ the minimum is at 2/(1 + λ)."""

    def data(seed: int) -> Data:
        rows = torch.ones(4, 1), torch.full((4, 1), 2.0)
        return Data(train=rows, test=rows)

    return Task(
        name="quadratic",
        data=data,
        model=lambda: nn.Linear(1, 1, bias=False),
        loss=lambda outputs, targets: (outputs - targets).square().mean() / 2,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
        num_steps=400,
        eval_every=400,
    )


def line_of(task: Task, decay: Any) -> LineScan:
    line = train(task, decay).line
    assert line is not None
    return line


@pytest.mark.parametrize("decay", ["coupled:0.25", "native:0.25", "by_hand:0.25", "penalized:0.25", "decoupled:0.25"])
def test_m5_2_loss_penalty_sum_and_their_minima(quadratic: Task, decay: str) -> None:
    """The solution minimizes loss + penalty, at α = 1; the loss alone has its minimum further out, at 1.25."""
    line = line_of(quadratic, decay)
    assert line.penalty is not None and line.total is not None
    w = 2 / 1.25
    for i, alpha in enumerate(line.alphas):
        assert line.train_loss[i] == pytest.approx((alpha * w - 2) ** 2 / 2, abs=1e-5)
        assert line.penalty[i] == pytest.approx(0.125 * (alpha * w) ** 2, rel=1e-5)
        assert line.total[i] == line.train_loss[i] + line.penalty[i]
    assert (line.total_minimum, line.loss_minimum, line.test_minimum) == (1.0, 1.25, 1.25)
    assert line.squared_norm == pytest.approx(w * w, rel=1e-5)


def test_m5_2_without_decay_the_loss_is_least_at_the_solution(quadratic: Task) -> None:
    """α = 1 is the loss's own minimum; a penalty, drawn for the sake of the picture, moves that of the sum inward."""
    line = line_of(quadratic, None)
    assert line.loss_minimum == 1.0
    assert line.squared_norm == pytest.approx(4.0, rel=1e-5)
    # λ = 1: the largest power of ten with λ/2·‖w‖² at most twice the loss at 0. ½(2α − 2)² + ½(2α)² is least at ½.
    assert line.note.startswith("No decay here; the penalty is the one that weight decay 1 would add")
    assert line.penalty is not None
    assert line.penalty == pytest.approx([2 * alpha**2 for alpha in line.alphas], rel=1e-4)
    assert line.total_minimum == 0.5


def test_a_line_without_numbers_draws_no_penalty() -> None:
    """A diverged network, or one whose weights are all zero, gives no illustration and no exception."""
    for loss, squared_norm in ((float("nan"), 1.0), (float("inf"), 1.0), (1.0, 0.0), (0.0, 1.0), (1.0, float("nan"))):
        assert _illustration(loss, squared_norm)[0] is None


def test_per_step_decay_has_the_penalty_of_its_fraction_over_the_learning_rate(quadratic: Task) -> None:
    """A fraction of 0.025 per step at learning rate 0.1 pulls like weight decay 0.25."""
    line = line_of(quadratic, "per_step:0.025")
    assert line.total_minimum == 1.0 and line.loss_minimum == 1.25


def test_an_adaptive_optimizer_with_decoupled_decay_gets_no_penalty(quadratic: Task) -> None:
    """AdamW's decay is the gradient of no penalty: drawing one would teach something false."""
    adamw = dataclasses.replace(quadratic, optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.01))
    line = line_of(adamw, "decoupled:0.25")
    assert line.penalty is None
    assert "AdamW is the gradient of no penalty" in line.note
    assert line_of(adamw, "coupled:0.25").penalty is not None


@pytest.mark.parametrize(
    ("spelling", "optimizer", "factor"),
    [
        ("coupled:0.1", torch.optim.Adam, 1.0),
        ("penalized:0.1", torch.optim.AdamW, 1.0),
        ("native:0.1", torch.optim.Adam, 1.0),
        ("native:0.1", torch.optim.AdamW, None),
        ("decoupled:0.1", torch.optim.SGD, 1.0),
        ("decoupled:0.1", torch.optim.Adam, None),
        ("l1:0.1", torch.optim.SGD, 1.0),
        ("l1:0.1", torch.optim.Adam, 1.0),
        ("l1:0.1", torch.optim.RMSprop, None),
        ("independent:0.01", torch.optim.SGD, None),
        ("toward:initial,0.1", torch.optim.SGD, None),
    ],
)
def test_a_penalty_is_drawn_only_where_training_settles_at_its_minimum(
    spelling: str, optimizer: type[torch.optim.Optimizer], factor: float | None
) -> None:
    """A table of which decays minimize loss + penalty under which optimizer."""
    decay = parse_decay(spelling)
    assert decay is not None
    weight = torch.nn.Parameter(torch.ones(2))
    made = optimizer([weight], lr=0.1)
    assert penalty_factor(decay, made, made.param_groups[0], weight) == factor


def test_scanning_leaves_the_model_bit_for_bit(small: Task) -> None:
    """The picture costs the solution nothing: the final loss is that of the trained weights."""
    from torchdecay.lab.training.line_scan import scan
    from torchdecay.lab.training.train import watched_weights

    setup = Setup.make(small, model_of(small, 0), as_contender("coupled:0.1"))
    before = {name: p.detach().clone() for name, p in setup.model.named_parameters()}
    data = small.data(0)
    line = scan(small, setup, data, watched_weights(small, setup.model))
    assert all(torch.equal(p, before[name]) for name, p in setup.model.named_parameters())
    assert line.train_loss[ALPHAS.index(1.0)] == evaluate(small, setup.model, data.train)[0]


def test_only_decaying_weights_move_along_the_line(small: Task) -> None:
    """At α = 0 the biases still stand, so the loss there is that of a network of biases alone."""
    setup = Setup.make(small, model_of(small, 0), as_contender(None))
    from torchdecay.lab.training.line_scan import scan
    from torchdecay.lab.training.train import watched_weights

    data = small.data(0)
    line = scan(small, setup, data, watched_weights(small, setup.model))
    with torch.no_grad():
        for name, p in setup.model.named_parameters():
            if name.endswith("weight"):
                p.zero_()
    assert line.train_loss[0] == evaluate(small, setup.model, data.train)[0]


def test_a_point_that_is_not_a_number_is_never_the_minimum() -> None:
    """A network that overflows at one end of the line still has a lowest point."""
    line = LineScan(
        alphas=(0.0, 0.5, 1.0), train_loss=(float("nan"), 2.0, 3.0), test_loss=(1.0, 1.0, 1.0), squared_norm=1.0
    )
    assert line.loss_minimum == 0.5
