"""What is known of one optimizer that takes steps."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn
from torch.optim import Optimizer

from torchdecay.observe.monitor.history import History
from torchdecay.observe.monitor.monitor import Monitor
from torchdecay.observe.recorded.record import Seen, Stepped
from torchdecay.observe.run import Run

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Met:
    """An optimizer that took a step, and what is known of it. The optimizer is not kept alive for it.

    Attributes:
        optimizer: which.
        about: what the summary says of it, but for its steps.
        seen: its plan, audit and forecast.
        model: the module that owns its parameters.
        run: how long it trains.
        num_groups: how many groups it had when its model was looked for.
        rates: learning rates of its groups at its first step.
        monitor: of its steps.
        history: what the monitor recorded.
        alone: whether no other optimizer has parameters of the model.
        depth: steps under way, one inside another.
        steps: steps that are over.
        looked: whether its first step was looked at, or is not to be.
        is_plain: whether its later steps are only counted, but for that `before_last`.
        before_last: after how many steps the last one comes.
        stood: weight_decay of its groups after the last step, where another decay was given to it.
    """

    optimizer: weakref.ref[Optimizer]
    about: Stepped
    seen: Seen = field(default_factory=Seen)
    model: weakref.ref[nn.Module] | None = None
    run: Run | None = None
    num_groups: int = 0
    rates: list[float | None] = field(default_factory=list)
    monitor: weakref.ref[Monitor] | None = None
    history: Callable[[], History] | None = None
    alone: bool = True
    depth: int = 0
    steps: int = 0
    looked: bool = False
    is_plain: bool = False
    before_last: int = -1
    stood: list[Any] = field(default_factory=list)


def alive(reference: weakref.ref[T] | None) -> T | None:
    """What a reference leads to; None where there is none, or nothing any more."""
    return None if reference is None else reference()
