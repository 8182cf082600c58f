"""What makes the runs of two sweeps comparable, as short texts that an error can show side by side."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay._version import __version__
from torchdecay.lab.tasks.task import Data, Task
from torchdecay.lab.training.contenders import BARE
from torchdecay.lab.training.setup import Setup


def identity_of(
    task: Task, model: nn.Module, data: Data, *, form: str, groups: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Everything that a run's numbers depend on, except its coefficient, seed and learning-rate multiplier.

    Data and initial weights should be those of the same seed each time. What is computed inside functions (loss,
    score) goes by name.
    """
    with Setup.make(task, model, BARE) as setup:
        optimizer = setup.optimizer
        group = optimizer.param_groups[0]
        options = {key: group[key] for key in sorted(group) if key not in ("params", "param_names", "weight_decay")}
        lrs = [_learning_rates(task, optimizer, i) for i in range(len(optimizer.param_groups))]
    said = {key: value for key, value in options.items() if isinstance(value, (int, float, str, tuple, list, bool))}
    return {
        "task": task.name,
        "form": form,
        "groups": ", ".join(f"{name}={selector!r}" for name, selector in (groups or {}).items()),
        "steps": str(task.num_steps),
        "batch": str(task.batch_size),
        "points every": str(task.eval_every),
        "data": _hash(tensor for part in data.parts.values() for tensor in part),
        "initial weights": _hash(model.state_dict().values()),
        "optimizer": f"{type(optimizer).__name__} {said}",
        "learning rates": hashlib.sha256(repr(lrs).encode()).hexdigest()[:12],
        "rules": hashlib.sha256(repr(list(task.rules)).encode()).hexdigest()[:12],
        "loss": _name(task.loss),
        "score": _name(task.score),
        "torch": torch.__version__,
        # The package itself stands to the right of this room; it is loaded all the same.
        "torchdecay": __version__,
    }


def _hash(tensors: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def _name(function: Any) -> str:
    return "" if function is None else str(getattr(function, "__qualname__", type(function).__name__))


def _learning_rates(task: Task, optimizer: Optimizer, index: int) -> list[float]:
    """The group's learning rate at each step, by running the scheduler; the optimizer takes no step."""
    group = optimizer.param_groups[index]
    if task.scheduler is None:
        return [float(group["lr"])] * task.num_steps
    scheduler, found = task.scheduler(optimizer), []
    with warnings.catch_warnings():
        # No step is taken, and torch warns of schedulers that run ahead.
        warnings.simplefilter("ignore")
        for _ in range(task.num_steps):
            found.append(float(group["lr"]))
            scheduler.step()
    return found
