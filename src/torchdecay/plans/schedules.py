r"""How the coefficient changes over training: frozen callables from a step to a multiplier.

$$\lambda_t = \lambda \cdot s(t), \qquad t = 0, 1, 2, \dots$$

`t` counts the steps that the optimizer really took: a step skipped by AMP, taken at learning rate 0, or between
accumulated micro-batches does not count. λ is the Decay's coefficient, so the multiplier is usually 1 somewhere.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, cast

from torchdecay.arguments import check_count, check_number, store
from torchdecay.encoding import Opaque, open_type, value_type
from torchdecay.errors import DecayError
from torchdecay.text import spelled


@open_type
class Schedule:
    """A multiplier for the coefficient: `schedule(step)`, or `schedule(step, lr_ratio)` with lr_ratio = η_t/η_max."""

    @property
    def needs_lr(self) -> bool:
        """Whether the multiplier depends on η_t/η_max."""
        return False

    def __call__(self, step: int, lr_ratio: float = 1.0) -> float:
        raise NotImplementedError

    @classmethod
    def _name(cls) -> str:
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    def __repr__(self) -> str:
        """The call that makes it: `linear(1, 0, 100)`."""
        values = [getattr(self, name) for name in self.__dataclass_fields__]  # type: ignore[attr-defined]
        said = [spelled(value) if isinstance(value, float) else repr(value) for value in values]
        return f"{self._name()}({', '.join(said)})"


@value_type
@dataclass(frozen=True, repr=False)
class Constant(Schedule):
    def __call__(self, step: int, lr_ratio: float = 1.0) -> float:
        return 1.0


@dataclass(frozen=True, repr=False)
class _Ramp(Schedule):
    start: float
    end: float
    num_steps: int

    def __post_init__(self) -> None:
        store(self, start=check_number(self.start, f"{self._name()} start"))
        store(self, end=check_number(self.end, f"{self._name()} end"))
        store(self, num_steps=check_count(self.num_steps, f"{self._name()} num_steps"))


@value_type
class Linear(_Ramp):
    def __call__(self, step: int, lr_ratio: float = 1.0) -> float:
        done = min(step / self.num_steps, 1.0)
        return self.start * (1.0 - done) + self.end * done


@value_type
class Cosine(_Ramp):
    def __call__(self, step: int, lr_ratio: float = 1.0) -> float:
        if step >= self.num_steps:
            return self.end
        left = (1 + math.cos(math.pi * step / self.num_steps)) / 2
        return self.start * left + self.end * (1.0 - left)


@value_type
@dataclass(frozen=True, repr=False)
class Warmup(Schedule):
    num_steps: int
    then: Schedule = Constant()

    def __post_init__(self) -> None:
        store(self, num_steps=check_count(self.num_steps, "warmup num_steps"))
        store(self, then=as_schedule(self.then))

    def __call__(self, step: int, lr_ratio: float = 1.0) -> float:
        if step < self.num_steps:
            return step / self.num_steps * self.then(0, lr_ratio)
        return self.then(step - self.num_steps, lr_ratio)

    @property
    def needs_lr(self) -> bool:
        return self.then.needs_lr

    def __repr__(self) -> str:
        return f"warmup({self.num_steps}, then={self.then!r})"


@value_type
@dataclass(frozen=True, repr=False)
class InverseTime(Schedule):
    t0: float

    def __post_init__(self) -> None:
        store(self, t0=check_number(self.t0, "inverse_time t0", open_minimum=True))

    def __call__(self, step: int, lr_ratio: float = 1.0) -> float:
        return 1.0 / (1.0 + step / self.t0)


@value_type
@dataclass(frozen=True, repr=False)
class Piecewise(Schedule):
    milestones: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        if not self.milestones:
            raise DecayError("piecewise got no milestones.", fix="Write piecewise({1000: 0.1}).")
        checked = (
            (
                check_count(step, "piecewise milestone", minimum=0),
                check_number(value, f"piecewise multiplier at {step}"),
            )
            for step, value in self.milestones
        )
        store(self, milestones=tuple(sorted(checked)))

    def __call__(self, step: int, lr_ratio: float = 1.0) -> float:
        return next((value for milestone, value in reversed(self.milestones) if milestone <= step), 1.0)

    def __repr__(self) -> str:
        return f"piecewise({dict(self.milestones)!r})"


@value_type
@dataclass(frozen=True, repr=False)
class FollowLr(Schedule):
    @property
    def needs_lr(self) -> bool:
        return True

    def __call__(self, step: int, lr_ratio: float = 1.0) -> float:
        return lr_ratio


@value_type
@dataclass(frozen=True, repr=False)
class Custom(Schedule):
    """s(t) = function(t): the user's own callable, checked at every step."""

    function: Callable[[int], float]

    def __post_init__(self) -> None:
        try:
            # Of one that a file describes nobody knows either.
            if not isinstance(cast(Any, self.function), Opaque):
                inspect.signature(self.function).bind(0)
        except ValueError:
            # Of some built-in functions nobody knows.
            return
        except TypeError as error:
            raise DecayError(
                f"the schedule {self!r}{inspect.signature(self.function)} can't be called with a step alone: {error}.",
                "It is called as schedule(step), with the number of steps taken, and returns the multiplier.",
                "Write def schedule(step), with defaults for what else it takes, or bind that: "
                "functools.partial(schedule, total=1000). What goes by the learning rate is td.schedules.follow_lr().",
            ) from None

    def __call__(self, step: int, lr_ratio: float = 1.0) -> float:
        value: Any = self.function(step)
        if isinstance(value, bool) or not isinstance(value, Real):
            raise DecayError(
                f"the schedule {self!r} returned {value!r} at step {step}.",
                "A multiplier is a number; the weights were left as they were.",
            )
        return float(value)

    def __repr__(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))


def constant() -> Schedule:
    """s(t) = 1, the default."""
    return Constant()


def linear(start: float, end: float, num_steps: int) -> Schedule:
    """s(t) = start + (end − start)·min(t/num_steps, 1).

    Args:
        start: multiplier at step 0, at least 0.
        end: multiplier from `num_steps` on, at least 0.
        num_steps: steps from start to end, at least 1.

    Example:
        >>> import torchdecay as td
        >>> td.schedules.linear(1, 0, 100)(25)
        0.75
    """
    return Linear(start, end, num_steps)


def cosine(start: float, end: float, num_steps: int) -> Schedule:
    """s(t) = end + (start − end)·½(1 + cos(π·t/num_steps)), `end` after.

    DINO raises decay from 0.04 to 0.4 (Emerging Properties in Self-Supervised Vision Transformers, arXiv 2104.14294):

    Example:
        >>> import torchdecay as td
        >>> td.decoupled(0.4, schedule=td.schedules.cosine(0.1, 1, 10_000)).coefficient_at(10_000)
        0.4
    """
    return Cosine(start, end, num_steps)


def warmup(num_steps: int, *, then: Schedule | None = None) -> Schedule:
    """s(t) = t/num_steps, then another schedule (constant by default) that starts counting there.

    Example:
        >>> import torchdecay as td
        >>> td.schedules.warmup(10)(5)
        0.5
    """
    return Warmup(num_steps, as_schedule(then))


def inverse_time(t0: float) -> Schedule:
    """s(t) = 1/(1 + t/t0): half after t0 steps.

    Example:
        >>> import torchdecay as td
        >>> td.schedules.inverse_time(100)(100)
        0.5
    """
    return InverseTime(t0)


def piecewise(milestones: Mapping[int, float]) -> Schedule:
    """s(t) = the multiplier of the last milestone that is not after t; 1 before the first.

    Example:
        >>> import torchdecay as td
        >>> td.schedules.piecewise({1000: 0.1})(999), td.schedules.piecewise({1000: 0.1})(1000)
        (1.0, 0.1)
    """
    if not isinstance(milestones, Mapping):
        raise DecayError(
            f"piecewise got {milestones!r}, of type {type(milestones).__name__}.", fix="Write piecewise({1000: 0.1})."
        )
    return Piecewise(tuple(milestones.items()))


def follow_lr() -> Schedule:
    """The multiplier s = η_t/η_max, the group's learning rate over its own peak.

    With `decoupled` the fraction per step then falls with η², as in `corrected`; with `per_step` it equals
    `independent`.

    Example:
        >>> import torchdecay as td
        >>> td.schedules.follow_lr()(0, 0.25)
        0.25
    """
    return FollowLr()


def as_schedule(value: Any) -> Schedule:
    """A Schedule as it is, None as `constant()`, any other callable as `Custom`.

    Raises:
        DecayError: for what is not callable, or not with a step alone.
    """
    if value is None:
        return Constant()
    if isinstance(value, (Schedule, Opaque)):
        return cast(Schedule, value)
    if callable(value) and not (isinstance(value, type) or value in _MAKERS):
        return Custom(value)
    raise DecayError(
        f"schedule is {value!r}, of type {type(value).__name__}.",
        "A schedule turns a step into a multiplier.",
        "Give one of td.schedules, or a function of the step.",
    )


_MAKERS = (constant, linear, cosine, warmup, inverse_time, piecewise, follow_lr)
"""They return schedules and are none: `follow_lr` without its parentheses is a slip."""
