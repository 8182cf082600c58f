"""`WeightDecay` in skorch's nets and scikit-learn's searches."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import torchdecay as td

pytest.importorskip("skorch", reason="skorch is not installed")
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetRegressor

from torchdecay.integrations.skorch import WeightDecay

pytestmark = pytest.mark.peers
X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = X[:, :1]
FORM = td.toward("initial", 0.5)


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1))


def net(decay, **options):
    return NeuralNetRegressor(
        small, optimizer=torch.optim.AdamW, lr=0.1, max_epochs=2, batch_size=8, train_split=None, verbose=0,
        callbacks=[("decay", WeightDecay(decay))], iterator_train__shuffle=False, **options,
    )  # fmt: skip


def weights(model):
    return torch.cat([param.detach().flatten() for param in model.parameters()])


def plain(decay, epochs=2):
    model = small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    td.attach(optimizer, decay, model=model)
    for _ in range(epochs):
        for at in range(0, 24, 8):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(torch.tensor(X[at : at + 8])), torch.tensor(Y[at : at + 8])).backward()
            optimizer.step()
    return weights(model)


@pytest.mark.parametrize("decay", [td.independent(0.2), td.l1(0.1), FORM])
def test_a_fit_is_a_loop_in_plain_torch_and_a_second_one_too(decay):
    """Bit for bit; partial_fit goes on from there, and a copy or a pickle does so as well."""
    made = net(decay).fit(X, Y)
    assert torch.equal(weights(made.module_), plain(decay))
    made.fit(X, Y)
    assert torch.equal(weights(made.module_), plain(decay))
    copies = [made, copy.deepcopy(made), pickle.loads(pickle.dumps(made))]
    for one in copies:
        one.partial_fit(X, Y)
        assert torch.equal(weights(one.module_), plain(decay, epochs=4))
        assert one.callbacks_[-2][1].handles_[0].steps(0) == 12


def test_a_grid_over_forms_and_values():
    """The callback's parameters are the net's, each candidate decays in its own way, and the best one is refitted."""
    found = GridSearchCV(
        net(0.1), {"callbacks__decay__decay": [td.decoupled(0.1), td.decoupled(0.5), td.l1(0.01), 0.0]}, cv=2
    ).fit(X, Y)
    assert len(set(found.cv_results_["mean_test_score"])) == 4
    (handle,) = dict(found.best_estimator_.callbacks_)["decay"].handles_
    assert found.best_params_["callbacks__decay__decay"] in (handle.plan.decay, 0.0)
    copied = clone(found.best_estimator_)
    assert copied.callbacks[0][1] is not found.best_estimator_.callbacks[0][1]


def test_what_can_not_be_is_refused_and_who_wins_is_said(capsys):
    """At the fit, for scikit-learn wants constructors that check nothing."""
    with pytest.raises(td.ApplyError, match="would decay through the loss"):
        net(td.penalized(0.1)).fit(X, Y)
    with pytest.raises(td.DecayError):
        net(-0.1).fit(X, Y)
    made = net(td.l1(0.1)).set_params(verbose=1).fit(X, Y)
    assert capsys.readouterr().out.count("weight_decay=0.01 of AdamW does not count") == 1
    made.partial_fit(X, Y)
    assert "does not count" not in capsys.readouterr().out


class Distance(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 1))

    def forward(self, found, target):
        return ((found - target) * self.scale).square().mean()


def test_a_criterion_with_weights_of_its_own():
    """They are planned under the criterion's name."""
    made = NeuralNetRegressor(
        small, criterion=Distance, optimizer=torch.optim.SGD, max_epochs=1, verbose=0,
        callbacks=[("decay", WeightDecay(td.decoupled(0.1), rules=td.policies.torch))],
    ).fit(X, Y)  # fmt: skip
    (handle,) = dict(made.callbacks_)["decay"].handles_
    assert "criterion.scale" in handle.lowering and "module.0.weight" in handle.lowering
