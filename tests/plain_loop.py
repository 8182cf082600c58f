"""A training as people write it, with torch alone: what the lab's own loop and its tasks are checked against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from torchdecay.lab.tasks.task import Task

Optimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def plain_losses(task: Task, optimizer: Optimizer, *, kept: float = 1.0, everywhere: bool = False) -> list[float]:
    """Loss on each part of the data after the task's steps with seed 0.

    Args:
        task: gives data, model, loss, batches and steps.
        optimizer: takes parameters, returns an optimizer that does not decay.
        kept: what is left of a weight in each step, before the update.
        everywhere: whether vectors decay as well, or matrices and kernels only.
    """
    data = task.data(0)
    x, y = data.train
    torch.manual_seed(0)
    model = task.model()
    params = [param for param in model.parameters() if param.requires_grad]
    stepped, shuffle = optimizer(params), torch.Generator().manual_seed(0)
    order = torch.arange(0)
    for _ in range(task.num_steps):
        if task.batch_size is None:
            order = torch.arange(len(x))
        elif len(order) < task.batch_size:
            order = torch.randperm(len(x), generator=shuffle)
        picked, order = order[: task.batch_size], order[task.batch_size or 0 :]
        stepped.zero_grad()
        task.loss(model(x[picked]), y[picked]).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for param in params:
                if everywhere or param.ndim > 1:
                    param.mul_(kept)
        stepped.step()
    with torch.no_grad():
        return [float(task.loss(model(rows), targets)) for rows, targets in data.parts.values()]
