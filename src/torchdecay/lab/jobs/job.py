"""`Job`: what trains in its own way, one run at a time, and tells a metric."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

from torchdecay.errors import TaskError
from torchdecay.lab.jobs.record import Applied
from torchdecay.plans.decay import Decay

Report = Callable[[float, float], None]
"""Takes a step and the metric there; raises `Stopped` where the run is not to go on."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What one run of a job is to be; value is 0 without decay, lr_scale multiplies the learning rate."""

    label: str
    decay: Decay | None
    value: float
    seed: int
    lr_scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What a run gets of the machine.

    `devices` are for CUDA_VISIBLE_DEVICES and `num_threads` for OMP_NUM_THREADS, where nobody set it; None leaves them
    as they are. `halt` is set when the run is to end at once.
    """

    devices: str | None = None
    num_threads: int | None = None
    halt: threading.Event = field(default_factory=threading.Event)


class Stopped(BaseException):
    """Ends a run that does not go on. No Exception, so that no handler of a training takes it for an error."""


class RunFailed(Exception):
    """A run that did not come to its end, or told no metric: why, and the end of what it printed."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


@dataclass(frozen=True)
class Job(ABC):
    """What trains in its own way, and tells a metric.

    Args:
        maximize: whether more of the metric is better.
        seeds: seeds when none are named.
        rungs: after how many metrics of a run halving looks at it; () takes a ninth and a third of those of the
            longest run so far.
    """

    _: KW_ONLY
    maximize: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    rungs: tuple[int, ...] = ()

    # A run is as long as it likes.
    num_steps: ClassVar[int] = 0
    step_name: ClassVar[str] = "step"

    def __post_init__(self) -> None:
        if any(isinstance(one, bool) or not isinstance(one, int) or one < 1 for one in self.rungs) or list(
            self.rungs
        ) != sorted(set(self.rungs)):
            raise TaskError(
                f"rungs is {list(self.rungs)}.",
                "At each of so many metrics of a run halving looks at it.",
                "Write ascending whole numbers from 1 up: rungs=(2, 6).",
            )

    @property
    @abstractmethod
    def name(self) -> str:
        """A short word, for files and tables: letters, digits, _, - and . only."""

    @property
    @abstractmethod
    def metric_name(self) -> str:
        """What the metric is called."""

    @property
    @abstractmethod
    def facts(self) -> Mapping[str, str]:
        """What a reader of its results should know."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, str]:
        """What its numbers depend on, except decay, seed and learning rate."""

    @property
    def measure(self) -> str:
        """The curve of a run that the metric becomes."""
        return "validation_score" if self.maximize else "validation_loss"

    @property
    def applied(self) -> Mapping[str, Applied]:
        """What records say of runs whose decay we gave them, by the decay; none where nobody looked."""
        return {}

    @abstractmethod
    def run(self, setting: Setting, report: Report, slot: Slot) -> float:
        """Train once, report the metric on the way, and return its last value.

        Raises:
            Stopped: handed on from `report`, after everything that the run had started is gone.
            Exception: the run failed.
        """
