"""SGD with weight_decay a on half the mean squared error ends at the ridge regression with alpha = n·a."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td

ROWS, COLUMNS = 60, 5


@pytest.mark.parametrize("how", ["weight_decay", "coupled", "penalized", "decoupled"])
@pytest.mark.parametrize("strength", [0.02, 0.5])
def test_the_end_is_that_of_scikit_learn(how: str, strength: float) -> None:
    """To 1e-10 in float64, full batch; for plain SGD all sites end alike."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, COLUMNS, generator=generator, dtype=torch.float64)
    y = x @ torch.arange(1.0, COLUMNS + 1, dtype=torch.float64) + torch.randn(ROWS, generator=generator).double()
    ridge = linear_model.Ridge(alpha=ROWS * strength, fit_intercept=False, tol=1e-14, solver="cholesky")
    expected = torch.from_numpy(ridge.fit(x.numpy(), y.numpy()).coef_)

    model = nn.Linear(COLUMNS, 1, bias=False).double()
    native = strength if how == "weight_decay" else 0.0
    optimizer = optim.SGD(model.parameters(), lr=0.3, weight_decay=native)
    handle = None
    if how != "weight_decay":
        handle = td.attach(optimizer, td.plan(model, getattr(td, how)(strength)), model=model)
    for _ in range(400):
        optimizer.zero_grad()
        loss = (model(x)[:, 0] - y).square().mean() / 2
        if how == "penalized" and handle is not None:
            loss = loss + handle.penalty(model)
        loss.backward()
        optimizer.step()
    assert torch.allclose(model.weight.detach()[0], expected, rtol=1e-10, atol=0)
    # Without decay the end is another one.
    assert not torch.allclose(torch.linalg.lstsq(x, y).solution, expected, rtol=1e-3)
