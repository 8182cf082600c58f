"""Laws of units: round trips over all pairs, detours that change nothing, and scikit-learn's own optima."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchdecay.observe.units import graph as names
from torchdecay.observe.units.converting import convert
from torchdecay.observe.units.graph import UNITS, Node

KNOWN: dict[str, Any] = {
    "lr": 0.003,
    "max_lr": 0.007,
    "num_samples": 1234,
    "batch_size": 37,
    "tokens_per_sample": 513,
    "epochs": 7,
    "loss": "mse",
    "optimizer": "sgd",
}
L2 = ["native", *(name for name, unit in UNITS.items() if unit.node in (Node.COUPLED, Node.DECOUPLED, Node.FRACTION))]
FRACTIONS = st.floats(1e-12, 0.5)
"""Up to half of a weight per step: beyond, 1 − f loses digits that a half-life would need."""
ROUNDING = 2e-14
"""Some ten operations, and a logarithm whose condition is at most 1.4."""


def close(a: Any, b: Any) -> bool:
    return bool(np.allclose(a, b, rtol=ROUNDING, atol=0.0))


@pytest.mark.long
@settings(max_examples=20)
@given(FRACTIONS)
def test_every_pair_of_units_goes_there_and_back(fraction: float) -> None:
    """To rounding, for all pairs."""
    values = {name: convert(fraction, "per_step", name, **KNOWN) for name in L2}
    for a, b in itertools.product(L2, L2):
        there = convert(values[a], a, b, **KNOWN)
        assert close(there, values[b]), (a, b)
        assert close(convert(there, b, a, **KNOWN), values[a]), (a, b)


@settings(max_examples=50)
@given(st.floats(1e-9, 1e3), st.floats(0.0, 1.0))
def test_pairs_and_l1_go_there_and_back(alpha: float, ratio: float) -> None:
    """scikit-learn's ElasticNet and Lasso."""
    pair = convert((alpha, ratio), "elastic_net", "l1_l2", **KNOWN)
    # The ratio is l1/(l1 + l2): where one of both is tiny, rounding is of the sum.
    assert np.allclose(convert(pair, "l1_l2", "elastic_net", **KNOWN), (alpha, ratio), rtol=ROUNDING, atol=1e-15)
    assert close(convert(convert(alpha, "lasso_alpha", "l1", **KNOWN), "l1", "lasso_alpha", **KNOWN), alpha)


@pytest.mark.long
def test_a_seeded_wrong_inverse_breaks_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factor of two that is forgotten one way."""
    wrong = dataclasses.replace(UNITS["keras_l2"], from_node=lambda v, c: v)
    monkeypatch.setitem(names.UNITS, "keras_l2", wrong)  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        test_every_pair_of_units_goes_there_and_back()


# scikit-learn: at its optimum, the gradient of our objective is zero


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """60 rows of 5 columns, numbers and classes to predict."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5))
    y = x @ [1.0, -2.0, 0.5, 0.0, 3.0] + rng.normal(size=60)
    return x, y, (y > 0).astype(int)


def slope(x: np.ndarray, y: np.ndarray, w: np.ndarray, loss: str, wd: float, l1: float = 0.0) -> np.ndarray:
    """The gradient at w of the mean loss + wd/2·Σw² + l1·Σ|w|; where w is 0, what of it l1 does not hold."""
    weight = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    out, want = torch.tensor(x) @ weight, torch.tensor(y, dtype=torch.float64)
    if loss == "cross_entropy":
        value = torch.nn.functional.binary_cross_entropy_with_logits(out, want)
    else:
        value = torch.nn.functional.mse_loss(out, want) * (0.5 if loss == "half_mse" else 1.0)
    (value + wd / 2 * (weight**2).sum()).backward()
    assert weight.grad is not None
    gradient = weight.grad.numpy()
    return np.where(w != 0, gradient + l1 * np.sign(w), np.maximum(np.abs(gradient) - l1, 0.0))


@pytest.mark.parametrize("loss", ["mse", "half_mse"])
def test_ridge(table: Any, loss: str) -> None:
    """The same optimum; with the other loss's value the slope is far from zero."""
    linear = pytest.importorskip("sklearn.linear_model")
    x, y, _ = table
    w = linear.Ridge(alpha=7.0, fit_intercept=False).fit(x, y).coef_
    wd = convert(7.0, "ridge_alpha", "coupled", num_samples=60, loss=loss)
    assert np.abs(slope(x, y, w, loss, wd)).max() < 1e-12
    assert np.abs(slope(x, y, w, loss, 2 * wd)).max() > 1e-2


@pytest.mark.parametrize("loss", ["mse", "half_mse"])
def test_elastic_net_and_lasso(table: Any, loss: str) -> None:
    """The same optimum, zeros included, to the solver's tolerance."""
    linear = pytest.importorskip("sklearn.linear_model")
    x, y, _ = table
    fit = {"fit_intercept": False, "tol": 1e-14, "max_iter": 100_000}
    w = linear.ElasticNet(alpha=0.5, l1_ratio=0.3, **fit).fit(x, y).coef_
    l1, l2 = convert((0.5, 0.3), "elastic_net", "l1_l2", loss=loss)
    assert np.abs(slope(x, y, w, loss, l2, l1)).max() < 1e-7
    w = linear.Lasso(alpha=0.8, **fit).fit(x, y).coef_
    assert (w == 0).any()
    assert np.abs(slope(x, y, w, loss, 0.0, convert(0.8, "lasso_alpha", "l1", loss=loss))).max() < 1e-7


def test_logistic_regression(table: Any) -> None:
    """C is one over the sum's weight, so one over n·wd beside a mean."""
    linear = pytest.importorskip("sklearn.linear_model")
    x, _, classes = table
    w = linear.LogisticRegression(C=0.5, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(x, classes).coef_[0]
    wd = convert(0.5, "logistic_c", "coupled", num_samples=60)
    assert np.abs(slope(x, classes, w, "cross_entropy", wd)).max() < 1e-6


def test_mlp(table: Any) -> None:
    """Its alpha is shared out over the rows of a batch, beside a mean over them."""
    networks = pytest.importorskip("sklearn.neural_network")
    x, y, _ = table
    net = networks.MLPRegressor(hidden_layer_sizes=(1,), activation="identity", solver="lbfgs", alpha=4.0, tol=1e-12,
                                max_iter=5000, random_state=0).fit(x, y)  # fmt: skip
    (first, second), (inner, outer) = net.coefs_, net.intercepts_
    tensors = [torch.tensor(one, dtype=torch.float64, requires_grad=True) for one in (first, second)]
    out = (torch.tensor(x) @ tensors[0] + torch.tensor(inner)) @ tensors[1] + torch.tensor(outer)
    wd = convert(4.0, "mlp_alpha", "coupled", batch_size=60, loss="mse")
    loss = torch.nn.functional.mse_loss(out[:, 0], torch.tensor(y)) + wd / 2 * sum((t**2).sum() for t in tensors)
    loss.backward()
    assert max(float(t.grad.abs().max()) for t in tensors if t.grad is not None) < 1e-3
    assert wd * max(float(t.detach().abs().max()) for t in tensors) > 0.1


@pytest.mark.parametrize("loss", ["mse", "half_mse"])
def test_sgd_regressor(table: Any, loss: str) -> None:
    """One of its steps on one row is one of SGD's with the converted weight_decay, to rounding."""
    linear = pytest.importorskip("sklearn.linear_model")
    x, y, _ = table
    start = np.linspace(-1.0, 1.1, 5)
    lr = 0.01 if loss == "half_mse" else 0.005
    model = linear.SGDRegressor(alpha=0.3, learning_rate="constant", eta0=0.01, fit_intercept=False, max_iter=1,
                                tol=None, shuffle=False)  # fmt: skip
    w = model.fit(x[:1], y[:1], coef_init=start.copy()).coef_
    wd = convert(0.3, "sgd_alpha", "coupled", loss=loss)
    assert np.allclose(w, start - lr * slope(x[:1], y[:1], start, loss, wd), rtol=0, atol=1e-14)
