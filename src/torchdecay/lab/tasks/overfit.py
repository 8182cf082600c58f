"""`overfit`: labels that are noise, and a network large enough to learn them by heart."""

from __future__ import annotations

import functools
import math
from functools import partial

import torch
from torch import nn
from torch.optim import SGD

from torchdecay.errors import need
from torchdecay.lab.tasks.task import Data, Task
from torchdecay.plans import policies

ROWS = FEATURES = 1000
HIDDEN = 500
LEARNING_RATE = 0.1


def overfit() -> Task:
    """The overfitting experiment: 1,000 rows of noise, half of them called 0 and half 1, and a wide network.

    Every parameter decays, biases too, as in a loop over `model.parameters()`. Curves have a point at each epoch, taken
    before its update.
    """
    return Task(
        name="overfit",
        title="Overfitting: a network learns noise by heart",
        data=data,
        model=model,
        loss=nn.functional.binary_cross_entropy,
        optimizer=partial(SGD, lr=LEARNING_RATE),
        num_steps=1000,
        eval_every=1,
        # Two gain little alone, and beside any other work they wait for each other: 90 s a run in place of 25.
        num_threads=1,
        rules=policies.torch,
        seeds=(0,),
        decays=("none", "by_hand:0.1", "native:0.1"),
        chance_loss=math.log(2),
        noise=True,
        notes=(
            "Inputs are standard normal and the labels have nothing to do with them: whatever is learned is noise. "
            "Always answering one half gives a loss of ln 2 = 0.693.",
            "Every parameter decays, biases included, as in the loop that people write by hand.",
        ),
    )


def data(seed: int) -> Data:
    """Standard normal rows; the first half labeled 0, the second 1; split the same way for every seed."""
    x = torch.randn(ROWS, FEATURES, generator=torch.Generator().manual_seed(seed))
    y = torch.cat([torch.zeros(ROWS // 2, 1), torch.ones(ROWS // 2, 1)])
    train, test = _split()
    return Data(train=(x[train], y[train]), test=(x[test], y[test]))


@functools.cache
def _split() -> tuple[list[int], list[int]]:
    """The rows that scikit-learn's split picks: a third for testing, random_state 42."""
    split = need("sklearn.model_selection", "lab").train_test_split
    train, test = split(range(ROWS), test_size=0.33, random_state=42)
    return list(train), list(test)


def model() -> nn.Module:
    """Linear, sigmoid, linear, sigmoid."""
    return nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.Sigmoid(), nn.Linear(HIDDEN, 1), nn.Sigmoid())
