"""L1 and elastic net end where scikit-learn ends, with the same exact zeros, under SGD, momentum and Adam."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet, Lasso
from torch import nn, optim

import torchdecay as td

pytestmark = pytest.mark.long

ALPHA = 0.3
OPTIMIZERS = {
    "SGD": (optim.SGD, {"lr": 0.1}),
    "momentum": (optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "dampening": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    "nesterov": (optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "Adam": (optim.Adam, {"lr": 0.03, "betas": (0.9, 0.99)}),
    "AdamW": (optim.AdamW, {"lr": 0.03, "betas": (0.9, 0.99), "weight_decay": 0.0}),
}


def problem():
    """A regression whose true weights are half zeros, with correlated columns."""
    random = np.random.default_rng(0)
    x = random.standard_normal((60, 8))
    x[:, 1] += 0.5 * x[:, 0]
    y = x @ np.array([2.0, 0.0, -1.5, 0.0, 0.1, 0.0, 3.0, 0.0]) + 0.5 * random.standard_normal(60)
    return x, y


def trained(decay, name):
    """Full batch, loss SSE/(2n), until it stands still."""
    x, y = (torch.from_numpy(one) for one in problem())
    cls, options = OPTIMIZERS[name]
    model = nn.Linear(8, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    optimizer = cls(model.parameters(), **options)
    td.attach(optimizer, td.plan(model, decay, rules=()), model=model)
    for _ in range(3000):
        before = model.weight.detach().clone()
        optimizer.zero_grad()
        ((model(x).squeeze(1) - y).square().sum() / (2 * len(y))).backward()
        optimizer.step()
        if torch.allclose(before, model.weight, rtol=0, atol=1e-14):
            break
    return model.weight.detach().numpy()[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
def test_the_optimum_and_its_zeros_are_scikit_learns(name, l1_ratio):
    """Within 1e-8 of Lasso and ElasticNet, which stop at 1e-14, and zero exactly where they are."""
    x, y = problem()
    if l1_ratio == 1.0:
        decay, reference = td.l1(ALPHA), Lasso(alpha=ALPHA, fit_intercept=False, tol=1e-14, max_iter=100_000)
    else:
        decay = td.elastic_net(l1=ALPHA * l1_ratio, l2=ALPHA * (1 - l1_ratio))
        reference = ElasticNet(alpha=ALPHA, l1_ratio=l1_ratio, fit_intercept=False, tol=1e-14, max_iter=100_000)
    expected = reference.fit(x, y).coef_
    found = trained(decay, name)
    assert 2 <= (expected == 0).sum() <= 5
    assert ((found == 0) == (expected == 0)).all()
    assert np.abs(found - expected).max() < 1e-8


@pytest.mark.long
@pytest.mark.parametrize("name", ["momentum", "Adam"])
def test_a_threshold_that_does_not_match_the_optimizer_is_seen(name, monkeypatch):
    """The seeded fault: with s = 1 momentum and Adam end elsewhere."""
    from torchdecay.apply import passes

    monkeypatch.setattr(passes, "step_sizes", lambda optimizer, group, params, regularizer: 1.0)
    x, y = problem()
    expected = Lasso(alpha=ALPHA, fit_intercept=False, tol=1e-14).fit(x, y).coef_
    assert np.abs(trained(td.l1(ALPHA), name) - expected).max() > 1e-3
