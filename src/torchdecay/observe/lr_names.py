"""Learning rate schedules by name, with the run's own length."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torchdecay.errors import UnitError
from torchdecay.plans.schedules import Schedule, as_schedule, constant, cosine, linear, warmup
from torchdecay.text import nearest, repr_quoted

BY_NAME: Mapping[str, Callable[[int], Schedule]] = {
    "constant": lambda num_steps: constant(),
    "linear": lambda num_steps: linear(1.0, 0.0, num_steps),
    "cosine": lambda num_steps: cosine(1.0, 0.0, num_steps),
}
"""Name to schedule, for the number of steps after warm-up."""


def check_name(name: str) -> None:
    """Refuse a name that no schedule has.

    Raises:
        UnitError: with the names that there are.
    """
    if name not in BY_NAME:
        raise UnitError(
            f"there is no learning rate schedule {repr_quoted(name)}.",
            f"Known: {', '.join(BY_NAME)}.",
            nearest(name, BY_NAME) or "Give one of them, a torch scheduler, or a function of the step.",
        )


def named(name: str, num_steps: int, warmup_steps: int, every: int) -> Callable[[int], float]:
    """The multiplier of each step: warm-up from 0, then the schedule to the end, in stairs of `every` steps.

    Raises:
        UnitError: an unknown name.
    """
    check_name(name)
    stairs = BY_NAME[name](max(1, -(-(num_steps - warmup_steps) // every)))

    def after(step: int) -> float:
        return stairs(step // every)

    return warmup(warmup_steps, then=as_schedule(after)) if warmup_steps else after
