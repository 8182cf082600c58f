"""MNIST-1D: made here, the same each time, and decay lowers the test loss."""

from __future__ import annotations

import dataclasses
import random
import sys

import pytest
import torch
from torch.optim import AdamW

pytest.importorskip("mnist1d")
import numpy

from plain_loop import plain_losses
from torchdecay.errors import MissingExtra
from torchdecay.lab.comparisons.compare import compare
from torchdecay.lab.tasks import mnist1d
from torchdecay.lab.training.train import train

pytestmark = [pytest.mark.xdist_group("mnist1d"), pytest.mark.timeout(900)]


@pytest.mark.long
def test_making_the_data_leaves_the_random_numbers_alone() -> None:
    """The package seeds Python's and numpy's; a user's own must go on as if nothing had happened."""
    mnist1d._made.cache_clear()
    random.seed(5)
    numpy.random.seed(5)
    expected = random.random(), float(numpy.random.rand())
    random.seed(5)
    numpy.random.seed(5)
    mnist1d.data(0)
    assert (random.random(), float(numpy.random.rand())) == expected


def test_the_seed_draws_rows_of_the_training_part() -> None:
    """A thousand each, no row in two parts, the test part always the same."""
    one, other = mnist1d.data(0), mnist1d.data(1)
    assert one.validation is not None
    assert one.sizes == {"train": 1000, "test": 1000, "validation": 1000}
    assert one.train[0].shape == (1000, 1, 40)
    rows = torch.cat([x.flatten(1) for x, _ in one.parts.values()])
    assert len(torch.unique(rows, dim=0)) == 3000
    assert torch.equal(one.test[0], other.test[0]) and not torch.equal(one.train[0], other.train[0])
    assert torch.equal(one.train[1].unique(), torch.arange(10))


@pytest.mark.long
def test_the_task_trains() -> None:
    """Its steps are those of AdamW at 1e-2 on batches of a hundred, kernels shrunk; the loss falls by a tenth."""
    task = dataclasses.replace(mnist1d.mnist1d(), num_steps=60)
    run = train(task, "decoupled:0.3", with_line=False)
    plain = plain_losses(task, lambda params: AdamW(params, lr=1e-2, weight_decay=0.0), kept=1 - 1e-2 * 0.3)
    assert run.train_loss[-1] < 0.9 * run.train_loss[0] and run.validation_loss is not None
    assert [run.train_loss[-1], run.test_loss[-1], run.validation_loss[-1]] == pytest.approx(plain, rel=1e-3)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone who installed torchdecay alone is told what to install."""
    mnist1d._made.cache_clear()
    monkeypatch.setitem(sys.modules, "mnist1d.data", None)
    with pytest.raises(MissingExtra, match=r"torchdecay\[lab\]"):
        mnist1d.data(0)


@pytest.mark.slow
def test_decay_lowers_the_test_loss_in_every_seed() -> None:
    """Without decay about 2.6, with 0.3 about 1.1: less than two thirds in each seed."""
    result = compare(mnist1d.mnist1d(), ["none", "decoupled:0.3"])
    for seed in result.seeds:
        final = {run.label: run.test_loss[-1] for run in result.runs if run.seed == seed}
        assert final["decoupled:0.3"] < 0.67 * final["none"]
