"""Decay by hook on every optimizer of torch is the same lines written around its step by hand."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from this_torch import Muon
from torchdecay.errors import ApplyError

WD = 0.3
OPTIONS = {
    optim.SGD: {"momentum": 0.9},
    optim.Adadelta: {"lr": 0.5},
    optim.AdamW: {"weight_decay": 0.0},
    Muon: {"weight_decay": 0.0},
    optim.RMSprop: {"lr": 0.01},
}
SPARSE = (optim.SparseAdam,)
NO_STEP_HOOKS = (optim.LBFGS,)
ALL = [
    cls
    for cls in vars(optim).values()
    if inspect.isclass(cls) and issubclass(cls, optim.Optimizer) and cls is not optim.Optimizer
]
CLASSES = [cls for cls in ALL if cls not in NO_STEP_HOOKS]


def run(cls, around, decay=None):
    """Five steps; `around` says what is done by hand before each."""
    torch.manual_seed(0)
    model = nn.Embedding(6, 4, sparse=cls in SPARSE).double()
    optimizer = cls(model.parameters(), **{"lr": 0.1} | OPTIONS.get(cls, {}))
    if decay is not None:
        td.attach(optimizer, td.plan(model, decay, rules=()), model=model, via="hook")
    for step in range(5):
        rows = torch.randint(6, (8,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(rows).cos().sum().backward()
        around(model.weight, optimizer.param_groups[0]["lr"])
        optimizer.step()
    return model.weight.detach().clone()


def nothing(weight, lr):
    pass


def shrink(weight, lr):
    weight.data.mul_(1 - lr * WD)


def add(weight, lr):
    weight.grad = weight.grad.add(weight.detach(), alpha=WD)


@pytest.mark.parametrize("cls", CLASSES)
def test_decoupled_by_hook_is_one_line_before_the_step(cls):
    """On all of them, those without a weight_decay of their own included; and it does something."""
    by_hand = run(cls, shrink)
    assert torch.equal(run(cls, nothing, td.decoupled(WD)), by_hand)
    assert not torch.equal(run(cls, nothing), by_hand)


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls not in SPARSE])
def test_coupled_by_hook_is_one_line_before_the_step(cls):
    """Through momentum, preconditioner and orthogonalization, as a gradient goes."""
    by_hand = run(cls, add)
    assert torch.equal(run(cls, nothing, td.coupled(WD)), by_hand)
    if cls is not optim.Rprop:  # Rprop reads the sign of the gradient alone, which so small a pull rarely turns.
        assert not torch.equal(run(cls, nothing), by_hand)


def test_coupled_on_a_sparse_gradient_says_what_would_do():
    """Adding a dense pull to a few rows' gradient would fail inside torch, with a message about layouts."""
    with pytest.raises(ApplyError, match=r"(?s)sparse gradient.*td.decoupled\(wd\)"):
        run(optim.SparseAdam, nothing, td.coupled(WD))


@pytest.mark.parametrize("decay", [td.decoupled(WD), td.coupled(WD), td.l1(WD)], ids=repr)
def test_lbfgs_is_refused_with_the_way_out(decay):
    """It evaluates the closure many times a step, and the way out is a penalty in the loss: it trains."""
    model = nn.Linear(3, 1).double()
    optimizer = optim.LBFGS(model.parameters(), tolerance_grad=1e-12, tolerance_change=1e-15)
    with pytest.raises(ApplyError, match=r"(?s)LBFGS.*td.penalized\(wd\).*handle.penalty\(model\)"):
        td.attach(optimizer, td.plan(model, decay), model=model)
    x, y = torch.randn(20, 3).double(), torch.randn(20, 1).double()
    with td.attach(optimizer, td.plan(model, td.penalized(WD), rules=()), model=model) as handle:

        def closure():
            optimizer.zero_grad()
            loss = 0.5 * (model(x) - y).square().sum() + handle.penalty(model)
            loss.backward()
            return loss

        for _ in range(20):
            optimizer.step(closure)
    table = torch.cat([x, torch.ones(20, 1).double()], dim=1)
    ridge = torch.linalg.solve(table.T @ table + WD * torch.eye(4).double(), table.T @ y)
    # LBFGS stops within a tolerance of the optimum.
    torch.testing.assert_close(torch.cat([model.weight[0], model.bias]), ridge[:, 0], rtol=1e-5, atol=1e-7)
