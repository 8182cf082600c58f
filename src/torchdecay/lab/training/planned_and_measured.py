"""What decay was to do in a run, and what it did: values that a training leaves behind."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torchdecay.errors import TaskError
from torchdecay.observe.forecast.predictability import Prediction
from torchdecay.observe.monitor.series import Event

Curve = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class GroupCourse:
    """Weights that one decay pulls in one run: what was forecast before training, and what was measured during it.

    The curves have one number per entry of `steps`; a log-shrink S leaves exp(−S) of a weight without gradient.

    Attributes:
        name: what the weights are for: "weight", "weight, bias".
        decay: what pulls them, as it prints.
        num_elements: how many weights.
        prediction: how sure the forecast is: "exact", "at most", or "unknown", and then its numbers are None.
        why: what a bound or an unknown depends on.
        fraction: of each weight per step, the mean over the run.
        half_life: steps until half of a weight without gradient is left.
        timescale: steps over which weights average their updates.
        timescale_epochs: the same in passes over the data.
        remarks: of the forecast, "too weak: ..." say.
        steps: steps taken when a record was made.
        planned: accumulated log-shrink of the forecast after so many steps; None where it is unknown.
        realized: the same as measured; None where nothing could be.
        measured: how it was measured, or why not, in words.
        weight_norm: ‖θ‖ of these weights before the last of these steps.
    """

    name: str
    decay: str
    num_elements: int
    prediction: Prediction
    why: str = ""
    fraction: float | None = None
    half_life: float | None = None
    timescale: float | None = None
    timescale_epochs: float | None = None
    remarks: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    planned: Curve | None = None
    realized: Curve | None = None
    measured: str = ""
    weight_norm: Curve = ()

    def __post_init__(self) -> None:
        if any(curve is not None and len(curve) != len(self.steps) for curve in (self.planned, self.realized)):
            raise TaskError(f"the group {self.name} has {len(self.steps)} steps, and curves of another length.")

    @property
    def planned_shrink(self) -> float | None:
        """The part of a weight without gradient that was to be gone at the end; None where it is unknown."""
        return _gone(self.planned)

    @property
    def realized_shrink(self) -> float | None:
        """The part that decay took, as measured; None where nothing could be."""
        return _gone(self.realized)


@dataclass(frozen=True, kw_only=True)
class PlannedAndMeasured:
    """What decay was to do in one run and what it did.

    Attributes:
        groups: one per decay at work and group of weights; none in a run without decay.
        alarms: of the monitor, about these groups.
        note: why there is no forecast or no measurement; "" where there are both.

    Example:
        >>> import dataclasses
        >>> from torchdecay.lab import task_named, train
        >>> run = train(dataclasses.replace(task_named("digits"), num_steps=40), "decoupled:10")
        >>> (group,) = run.planned_and_measured.groups
        >>> f"{group.half_life:.0f} steps", f"{group.planned_shrink:.3f}", f"{group.realized_shrink:.3f}"
        ('69 steps', '0.331', '0.331')
    """

    groups: tuple[GroupCourse, ...] = ()
    alarms: tuple[Event, ...] = ()
    note: str = ""


def _gone(logs: Curve | None) -> float | None:
    return None if not logs else -math.expm1(-logs[-1])
