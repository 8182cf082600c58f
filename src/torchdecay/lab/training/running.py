"""`Running`: a training under way, which can be saved between two steps and gone on with, to the bit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from torchdecay.apply.checkpoint import load_optimizer
from torchdecay.lab.training.contenders import Contender
from torchdecay.lab.training.results import TrainingRun
from torchdecay.lab.training.setup import Setup


@dataclass
class Record:
    """Curves while they grow."""

    steps: list[int] = field(default_factory=list)
    columns: dict[str, list[float]] = field(default_factory=dict)

    def add(self, step: int, **values: float | None) -> None:
        """One more point; what is None has no curve."""
        self.steps.append(step)
        for name, value in values.items():
            if value is not None:
                self.columns.setdefault(name, []).append(value)

    def curves(self) -> dict[str, Any]:
        """As a `TrainingRun` takes them."""
        return {name: tuple(values) for name, values in self.columns.items()}


@dataclass(kw_only=True)
class Running:
    """A training under way, between two steps, with its curves so far.

    `modes_agree` says whether the loss of a full batch is the training loss; `earlier` has the seconds of the try that
    it goes on from, `started` when this try began, by `time.perf_counter`.
    """

    contender: Contender
    seed: int
    setup: Setup
    scheduler: LRScheduler | None
    record: Record = field(default_factory=Record)
    step: int = 0
    modes_agree: bool = False
    earlier: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def run(self) -> TrainingRun:
        """What was measured so far."""
        return TrainingRun(
            label=self.contender.label,
            decay=self.contender.printed,
            seed=self.seed,
            steps=tuple(self.record.steps),
            seconds=self.earlier + time.perf_counter() - self.started,
            **self.record.curves(),
        )

    def state_dict(self) -> dict[str, Any]:
        """All that a fresh training of the same task, decay and seed needs to go on from here."""
        return {
            "model": self.setup.model.state_dict(),
            "optimizer": self.setup.optimizer.state_dict(),
            "references": {} if self.setup.handle is None else self.setup.handle.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "random": torch.get_rng_state(),
            "steps": self.record.steps,
            "columns": self.record.columns,
            "step": self.step,
            "modes_agree": self.modes_agree,
            "seconds": self.run.seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Be where the training was that `state_dict` was taken from."""
        if self.setup.handle is not None:
            self.setup.handle.load_state_dict(state["references"])
        self.setup.optimizer.load_state_dict(state["optimizer"])
        self._go_on(state)

    def fork(self, state: Mapping[str, Any]) -> None:
        """Go on, with a decay of one's own, from where a training without decay was; its time counts for nothing."""
        load_optimizer(self.setup.optimizer, state["optimizer"], model=self.setup.model)
        self._go_on(state)
        self.earlier = 0.0

    def _go_on(self, state: Mapping[str, Any]) -> None:
        self.setup.model.load_state_dict(state["model"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.record = Record(list(state["steps"]), {name: list(values) for name, values in state["columns"].items()})
        self.step, self.modes_agree = state["step"], state["modes_agree"]
        self.earlier, self.started = state["seconds"], time.perf_counter()
        torch.set_rng_state(state["random"])
