"""A task and sweeps that other processes can import by name: workers, and children that get killed."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchdecay.errors import TaskError
from torchdecay.lab.storage.store import Store
from torchdecay.lab.sweeps.sweep import sweep
from torchdecay.lab.tasks.task import Data, Task


def halves(seed: int) -> Data:
    """Sixty rows whose sign of the first column is to be learned; a seventh of the labels are wrong."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(60, 8, generator=generator)
    y = (x[:, :1] > 0).float()
    y[:40:7] = 1 - y[:40:7]
    return Data(train=(x[:40], y[:40]), test=(x[40:], y[40:]))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1))


def sgd(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.1)


def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return float(((outputs > 0) == (targets > 0.5)).double().mean())


def task(**changes: Any) -> Task:
    return Task(
        **{
            "name": "halves",
            "data": halves,
            "model": network,
            "loss": nn.functional.binary_cross_entropy_with_logits,
            "optimizer": sgd,
            "num_steps": 18,
            "eval_every": 2,
            **changes,
        }
    )


def lost(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """NaN, as a training that diverged has."""
    return outputs.sum() * float("nan")


def lost_task() -> Task:
    return task(loss=lost)


class Slow(nn.Module):
    """The network, but each pass takes some time, so that a kill lands inside a run."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.0005)
        return self.inner(x)


def slow_task() -> Task:
    return task(model=Slow)


class Deadly(nn.Module):
    """The network; with seed 1 its process is killed, the first so many times, as if memory had run out."""

    def __init__(self, folder: str, deaths: int) -> None:
        super().__init__()
        self.inner = network()
        if torch.initial_seed() == 1 and len(os.listdir(folder)) < deaths:
            Path(folder, str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


def into_store(path: str, values: tuple[float, ...], seeds: int, form: str = "decoupled", resume: bool = True) -> None:
    """What a child does until it is killed, or done."""
    torch.set_num_threads(1)
    sweep(slow_task(), form, values, seeds=seeds, engine="serial", store=Store(path, resume))


def until_full(path: str, values: tuple[float, ...], seeds: int, room: int) -> None:
    """A sweep on a disk with so many bytes left; writes down what it was told."""
    torch.set_num_threads(1)
    options: Any = {"engine": "serial", "store": Store(path, resume=True)}
    sweep(task(), "decoupled", values[:1], seeds=1, **options)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    full = os.path.getsize(path) + room
    resource.setrlimit(resource.RLIMIT_FSIZE, (full, full))
    try:
        sweep(task(), "decoupled", values, seeds=seeds, **options)
    except TaskError as error:
        Path(path).with_name("told").write_text(str(error))
