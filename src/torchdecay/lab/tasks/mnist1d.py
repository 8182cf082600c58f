"""`mnist1d`: handwritten digits as curves of 40 points, from the package of that name, made without a network."""

from __future__ import annotations

import functools
import random
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from torchdecay.errors import need
from torchdecay.lab.tasks.parts import Classification
from torchdecay.lab.tasks.task import Data, Task

TRAIN_ROWS = VALIDATION_ROWS = 1000
CHANNELS, CLASSES = 25, 10
LEARNING_RATE = 1e-2


def mnist1d() -> Task:
    """MNIST-1D with few rows: 1,000 to train on, 1,000 to choose by, 1,000 for test, and a small CNN."""
    return Classification(
        name="mnist1d",
        title="MNIST-1D: digits drawn as curves of 40 points",
        data=data,
        model=model,
        optimizer=partial(AdamW, lr=LEARNING_RATE),
        num_steps=1000,
        batch_size=100,
        eval_every=50,
        score=None,
        decays=("none", "decoupled:0.1", "decoupled:0.3", "decoupled:1"),
        notes=(
            "Made on this machine by the package mnist1d (make_dataset with its own defaults, seed 42), as in Scaling "
            "down deep learning, arXiv 2011.14439; nothing is downloaded. Of its 4,000 training rows the seed draws "
            "1,000 to train on and 1,000 to choose by, so that there is something to overfit; test rows are its own.",
            "The loss decides, for it shows what accuracy hides: without decay the network is about as often wrong, "
            "but sure of it.",
            "With AdamW at learning rate 0.01 weight decay 0.3 forgets over 333 steps, a third of the run.",
        ),
    )


def data(seed: int) -> Data:
    """Rows of the data set's training part, drawn by the seed; its test part."""
    x, y, x_test, y_test = _made()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, validation = order[:TRAIN_ROWS], order[TRAIN_ROWS : TRAIN_ROWS + VALIDATION_ROWS]
    return Data(train=(x[train], y[train]), test=(x_test, y_test), validation=(x[validation], y[validation]))


@functools.cache
def _made() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The data set with its own defaults; it seeds the random numbers of Python and numpy, which are put back."""
    package = need("mnist1d.data", "lab")
    numpy = need("numpy", "lab")
    before, numpy_before = random.getstate(), numpy.random.get_state()
    try:
        made = package.make_dataset(package.get_dataset_args())
    finally:
        random.setstate(before)
        numpy.random.set_state(numpy_before)

    def rows(part: str) -> tuple[Tensor, Tensor]:
        return (
            torch.from_numpy(made[f"x{part}"]).float().unsqueeze(1),
            torch.from_numpy(made[f"y{part}"]).long(),
        )

    return (*rows(""), *rows("_test"))


def model() -> nn.Module:
    """Three convolutions with 25 channels that halve the length each time, then a linear layer."""
    return nn.Sequential(
        nn.Conv1d(1, CHANNELS, 5, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv1d(CHANNELS, CHANNELS, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv1d(CHANNELS, CHANNELS, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * CHANNELS, CLASSES),
    )
