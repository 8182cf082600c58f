"""What several tasks are made of: a network, scores, and what all classifications say."""

from __future__ import annotations

import functools
import itertools
import math

from torch import Tensor, nn

from torchdecay.lab.tasks.task import Task


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers from each width to the next, with ReLU between them."""
    layers = [layer for pair in itertools.pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Share of rows whose largest output is the right one."""
    return float((outputs.argmax(1) == targets).double().mean())


def r_squared(outputs: Tensor, targets: Tensor) -> float:
    """1 − Σ(y − ŷ)²/Σ(y − ȳ)²: 1 is perfect, 0 as good as the mean; NaN when all targets are equal."""
    residual = (targets - outputs.squeeze(1)).double().square().sum()
    total = (targets - targets.mean()).double().square().sum()
    return float(1 - residual / total) if total else math.nan


Classification = functools.partial(
    Task, loss=nn.functional.cross_entropy, score=accuracy, score_name="accuracy", num_threads=1
)
"""A task whose targets are classes."""
