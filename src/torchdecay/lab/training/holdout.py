"""Rows to choose by: a task without validation rows gets some of its training rows set aside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch

from torchdecay.errors import TaskError
from torchdecay.lab.tasks.task import Data, Task, data_of

SHARE = 0.2
"""Of the training rows, drawn by the seed."""


def with_validation(task: Task, seed: int) -> tuple[Task, str]:
    """The task with validation rows, and a sentence on where they come from."""
    data = data_of(task, seed)
    sizes = data.sizes
    if data.validation is not None:
        return task, f"The choice is made on the task's own {sizes['validation']:,} validation rows."
    count = int(SHARE * sizes["train"])
    if count < 1:
        raise TaskError(
            f"the task {task.name!r} has {sizes['train']} training rows and no validation rows.",
            "A choice needs rows that neither train nor test.",
            "Give it more rows, or Data(validation=(x, y)).",
        )
    note = (
        f"The task has no validation rows, so {count:,} of its {sizes['train']:,} training rows, drawn by the seed, "
        "are set aside to choose by; the test rows take no part in the choice."
    )
    return dataclasses.replace(task, data=_SetAside(task.data)), note


@dataclass(frozen=True)
class _SetAside:
    """Data with the last rows of a shuffled training part as validation."""

    source: Callable[[int], Data]

    def __call__(self, seed: int) -> Data:
        data = self.source(seed)
        x, y = data.train
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        count = int(SHARE * len(x))
        train, validation = order[:-count], order[-count:]
        return Data(train=(x[train], y[train]), test=data.test, validation=(x[validation], y[validation]))
