"""`digits`: handwritten digits of which many are labeled wrong, where decay decides what is learned."""

from __future__ import annotations

from functools import partial

import torch

from torchdecay.errors import need
from torchdecay.lab.tasks.parts import Classification, mlp
from torchdecay.lab.tasks.task import Data, Task

TRAIN_ROWS, REDRAWN = 1000, 400
HIDDEN, CLASSES = 256, 10


def digits() -> Task:
    """Scikit-learn's 8 x 8 digits: 1,000 to train on, the labels of 400 of them redrawn; the test labels are right.

    A redrawn label is right by luck one time in ten, so 36 % of the training labels are wrong.
    """
    return Classification(
        name="digits",
        title="Handwritten digits, 36 % of the training labels wrong",
        data=data,
        model=partial(mlp, 64, HIDDEN, HIDDEN, CLASSES),
        num_steps=1000,
        batch_size=128,
        eval_every=20,
        decays=("none", "decoupled:1", "decoupled:3", "decoupled:10"),
        notes=(
            "400 of the 1,000 training labels were redrawn at random, so a network that fits them all has learned "
            "mistakes by heart. The test labels are the right ones. The training loss counts the wrong ones too, "
            "so a network that rightly ignores them has a higher loss in training than in testing.",
            "In a run as short as this one, decay must be strong to act at all: with AdamW at learning rate 0.001, "
            "weight decay 10 forgets over 100 steps, 0.1 over 10,000, which is ten times the run.",
        ),
    )


def data(seed: int) -> Data:
    """Pixels / 16 less each pixel's mean over the training rows; the seed draws those and the wrong labels."""
    images, labels = need("sklearn.datasets", "lab").load_digits(return_X_y=True)
    x = torch.from_numpy(images).float() / 16
    y = torch.from_numpy(labels).long()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator)
    train, test = order[:TRAIN_ROWS], order[TRAIN_ROWS:]
    x -= x[train].mean(0)
    noisy = y[train].clone()
    noisy[:REDRAWN] = torch.randint(CLASSES, (REDRAWN,), generator=generator)
    return Data(train=(x[train], noisy), test=(x[test], y[test]))
