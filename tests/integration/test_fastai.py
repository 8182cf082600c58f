"""`opt_func` in fastai's Learner."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

import torchdecay as td

pytestmark = pytest.mark.peers
X = torch.randn(24, 4, generator=torch.Generator().manual_seed(1))


def learner(decay, folder, **options):
    pytest.importorskip("fastai", reason="fastai is not installed")
    # It brings Learner.no_bar.
    importlib.import_module("fastai.callback.progress")
    from fastai.basics import DataLoader, DataLoaders, Learner

    from torchdecay.integrations.fastai import opt_func

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1))
    rows = [(x, x[:1]) for x in X]
    loaders = DataLoaders(DataLoader(rows, bs=8, num_workers=0), DataLoader(rows, bs=8, num_workers=0))
    return Learner(
        loaders, model, loss_func=nn.functional.mse_loss, path=folder, opt_func=opt_func(torch.optim.AdamW, decay),
        **options,
    )  # fmt: skip


def weights(learn):
    return torch.cat([param.detach().flatten() for param in learn.model.parameters()])


@pytest.mark.parametrize("decay", [td.decoupled(0.2), td.l1(0.1)])
def test_a_fit_is_a_loop_in_plain_torch(decay, tmp_path):
    """Bit for bit."""
    learn = learner(decay, tmp_path)
    model = learner(decay, tmp_path).model
    with learn.no_bar(), learn.no_logging():
        learn.fit(2, lr=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    td.attach(optimizer, decay, model=model)
    for _ in range(2):
        for at in range(0, 24, 8):
            nn.functional.mse_loss(model(X[at : at + 8]), X[at : at + 8, :1]).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert torch.equal(weights(learn), torch.cat([one.detach().flatten() for one in model.parameters()]))
    assert {row.name for row in learn.opt.decay_handle.lowering if row.decay} == {"0.weight", "2.weight"}


def test_layers_that_are_unfrozen_later_decay_by_the_same_rules(tmp_path):
    """Groups of a splitter stay, with the learning rates of each."""
    learn = learner(td.decoupled(0.5), tmp_path, splitter=lambda model: [list(one.parameters()) for one in model])
    with learn.no_bar(), learn.no_logging():
        learn.freeze()
        learn.fit(1, lr=0.1)
        assert {row.name for row in learn.opt.decay_handle.lowering if row.decay} >= {"2.weight"}
        before = learn.model[0].weight.detach().clone()
        learn.unfreeze()
        with td.Monitor(learn.opt.opt, model=learn.model, every_steps=1) as monitor:
            learn.fit(1, lr=slice(0.01, 0.1))
        assert monitor.history.records and not monitor.history.events
    assert not torch.equal(before, learn.model[0].weight)
    assert {row.name for row in learn.opt.decay_handle.lowering if row.decay} == {"0.weight", "2.weight"}
    assert [group["lr"] for group in learn.opt.opt.param_groups] == pytest.approx([0.01, 0.01 * 10**0.5, 0.1])


def test_a_learner_that_is_loaded_goes_on(tmp_path):
    """`learn.save` and `learn.load` keep the steps that a schedule counts."""
    decay = td.decoupled(0.5).replace(schedule=td.schedules.linear(1.0, 0.0, 9))
    made = []
    for half in (True, False):
        learn = learner(decay, tmp_path)
        with learn.no_bar(), learn.no_logging():
            if half:
                learn.create_opt()
                learn.fit(1, lr=0.1)
                learn.save("half")
            else:
                learn.create_opt()
                learn.load("half")
            learn.fit(1, lr=0.1)
        made.append(weights(learn))
        assert learn.opt.decay_handle.steps(0) == 6
    assert torch.equal(*made)


def test_a_penalty_that_nobody_adds_is_refused(tmp_path):
    """The loss is the Learner's."""
    learn = learner(td.penalized(0.1), tmp_path)
    with learn.no_bar(), learn.no_logging(), pytest.raises(td.ApplyError, match="would decay through the loss"):
        learn.fit(1)
