"""`Point`: one thing that a sweep tries."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torchdecay.arguments import check_number
from torchdecay.lab.training.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Point:
    """One thing that was tried: a coefficient, or one per group, at one multiplier of the learning rate.

    Attributes:
        label: its name in tables, and that of its runs.
        decay: as it prints; "none" for the run without.
        value: the coefficient; None for the run without decay, and with groups.
        values: (group, coefficient) pairs, with groups.
        lr_scale: multiplier of the task's learning rate.
    """

    label: str
    decay: str
    value: float | None = None
    values: tuple[tuple[str, float], ...] = ()
    lr_scale: float = 1.0

    def __post_init__(self) -> None:
        for number in (self.lr_scale, *self.coefficients):
            check_number(number, "a value of a sweep", open_minimum=True)

    @property
    def is_bare(self) -> bool:
        """Whether it is a run without decay."""
        return self.value is None and not self.values

    @property
    def coefficients(self) -> tuple[float, ...]:
        """That of each group, or the single one; none without decay."""
        return tuple(dict(self.values).values()) if self.value is None else (self.value,)

    @property
    def pull(self) -> float:
        """How hard it pulls, to put points of one form in order: lr_scale · coefficient, groups by geometric mean."""
        logs = [math.log(value) for value in self.coefficients]
        return self.lr_scale * math.exp(sum(logs) / len(logs)) if logs else 0.0


def points_of(trials: Iterable[Trial]) -> tuple[Point, ...]:
    """What was tried: without decay first, then by learning rate and coefficient."""
    found = {
        trial.contender.label: Point(
            label=trial.contender.label,
            decay=trial.contender.label if trial.values else trial.contender.printed,
            value=trial.value,
            values=trial.values,
            lr_scale=trial.lr_scale,
        )
        for trial in trials
    }
    return tuple(sorted(found.values(), key=lambda one: (not one.is_bare, one.lr_scale, one.value or 0.0, one.values)))
