"""Grokking: without decay the pairs are learned by heart, with decay the rule is found."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch

from plain_loop import plain_losses
from torchdecay.lab.comparisons.compare import compare
from torchdecay.lab.tasks.grokking import PRIME, data, grokking
from torchdecay.lab.tasks.task import model_of
from torchdecay.lab.training.contenders import as_contender
from torchdecay.lab.training.setup import Setup
from torchdecay.lab.training.train import train


def test_every_pair_is_in_exactly_one_part() -> None:
    """Half to train, a quarter each to choose by and to test; targets are the sums modulo 59."""
    made = data(0)
    assert made.sizes == {"train": 1740, "test": 871, "validation": 870}
    pairs = torch.cat([x for x, _ in made.parts.values()])
    assert len(torch.unique(pairs, dim=0)) == PRIME * PRIME
    for x, y in made.parts.values():
        assert torch.equal((x[:, 0] + x[:, 1]) % PRIME, y)
    assert not torch.equal(data(1).train[0], made.train[0])


def test_every_parameter_decays() -> None:
    """The embedding, which the standard rules spare, holds the table that must be given up."""
    plan = Setup.make(grokking(), model_of(grokking(), 0), as_contender("decoupled:1")).plan
    assert all(row.decay is not None for row in plan.rows)


def test_the_task_trains() -> None:
    """Twenty steps are those of AdamW at 5e-3 on all pairs, with every parameter shrunk."""
    task = dataclasses.replace(grokking(), num_steps=20)
    run = train(task, "decoupled:1", with_line=False)
    adamw = functools.partial(torch.optim.AdamW, lr=5e-3, weight_decay=0.0)
    assert run.validation_loss is not None and run.validation_score is not None
    assert [run.train_loss[-1], run.test_loss[-1], run.validation_loss[-1]] == pytest.approx(
        plain_losses(task, adamw, kept=1 - 5e-3, everywhere=True), rel=1e-4
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_decay_decides_between_none_and_all() -> None:
    """Test accuracy 0 without decay though every training pair is known; with 1 and with 3 all."""
    result = compare(grokking(), ["none", "decoupled:1", "decoupled:3"])
    for run in result.runs:
        assert run.train_score is not None and run.test_score is not None
        assert run.train_score[-1] == 1.0
        assert run.test_score[-1] < 0.05 if run.label == "none" else run.test_score[-1] > 0.98
