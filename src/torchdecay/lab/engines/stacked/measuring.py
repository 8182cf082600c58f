"""Losses and scores of all members on one part of the data."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from torchdecay.errors import RAISED
from torchdecay.lab.engines.stacked.losses import Losses
from torchdecay.lab.tasks.parts import accuracy
from torchdecay.lab.tasks.task import Task, measures


@dataclass
class Measured:
    """One number for each member; what a member's own measurement raised, by its place."""

    losses: list[float] = field(default_factory=list)
    scores: list[float] | None = None
    raised: dict[int, BaseException] = field(default_factory=dict)


@torch.no_grad()
def measure(task: Task, losses: Losses, outputs: Tensor, targets: Tensor) -> Measured:
    """Loss and score of each member's outputs, as `measures` gives them one by one."""
    if task.score is None or task.score is accuracy:
        try:
            scores = None if task.score is None else (outputs.argmax(2) == targets).double().mean(1).tolist()
            return Measured(losses(outputs, targets).tolist(), scores)
        except RAISED:
            # Whose fault it is shows one by one.
            pass
    made = Measured(scores=None if task.score is None else [])
    for member in range(len(outputs)):
        try:
            loss, score = measures(task, outputs[member], targets[member])
        except RAISED as error:
            made.raised[member] = error
            loss = score = float("nan")
        made.losses.append(loss)
        if made.scores is not None and score is not None:
            made.scores.append(score)
    return made
