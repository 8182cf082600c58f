"""`grokking`: addition modulo 59, learned by heart or understood, as decay decides."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.optim import AdamW

from torchdecay.lab.tasks.parts import Classification, mlp
from torchdecay.lab.tasks.task import Data, Task
from torchdecay.plans import policies

PRIME = 59
EMBEDDING, HIDDEN = 64, 256
LEARNING_RATE = 5e-3


def grokking() -> Task:
    """(a + b) mod 59 from half of all pairs; the other half is for validation and test, a quarter of all each.

    Every parameter decays, the embedding too: what must be given up is the table of pairs that it holds.
    """
    return Classification(
        name="grokking",
        title="Grokking: addition modulo 59, learned by heart or understood",
        data=data,
        model=model,
        optimizer=partial(AdamW, lr=LEARNING_RATE),
        num_steps=2000,
        eval_every=25,
        rules=policies.torch,
        decays=("none", "decoupled:0.3", "decoupled:1", "decoupled:3"),
        notes=(
            "All pairs (a, b) below 59 are there once: half to train on, the rest to choose by and to test. A network "
            "that learns the training pairs by heart answers none of the others; one that finds the rule answers all.",
            "Every parameter decays, the embedding included.",
            "With AdamW at learning rate 0.005 weight decay 1 forgets over 200 steps, a tenth of the run.",
        ),
    )


def data(seed: int) -> Data:
    """Pairs of numbers and their sum modulo 59; the seed draws which are for what."""
    first, second = torch.meshgrid(torch.arange(PRIME), torch.arange(PRIME), indexing="ij")
    pairs = torch.stack([first.flatten(), second.flatten()], dim=1)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
    pairs = pairs[order]
    sums = pairs.sum(1) % PRIME
    half, quarter = len(pairs) // 2, len(pairs) // 4
    train, validation, test = (slice(half), slice(half, half + quarter), slice(half + quarter, None))
    return Data(
        train=(pairs[train], sums[train]),
        test=(pairs[test], sums[test]),
        validation=(pairs[validation], sums[validation]),
    )


def model() -> nn.Module:
    """Both numbers embedded by one table, then an MLP, 128-256-59."""
    return nn.Sequential(nn.Embedding(PRIME, EMBEDDING), nn.Flatten(), *mlp(2 * EMBEDDING, HIDDEN, PRIME))
