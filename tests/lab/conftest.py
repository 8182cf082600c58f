"""A task that trains in milliseconds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from torchdecay.lab.tasks.task import Data, Task


def sgd(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.1)


def halves(seed: int) -> Data:
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(seed))
    y = (x[:, :1] > 0).float()
    return Data(train=(x[:40], y[:40]), test=(x[40:], y[40:]))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1), nn.Sigmoid())


@pytest.fixture
def small() -> Task:
    """Forty rows, eight columns, twelve steps of plain SGD on all rows."""
    return Task(
        name="small",
        data=halves,
        model=network,
        loss=nn.functional.binary_cross_entropy,
        optimizer=sgd,
        num_steps=12,
        eval_every=3,
    )
