"""`Run`: what a training run is, in the numbers that decay depends on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torchdecay.arguments import check_count, check_number, check_word, store
from torchdecay.errors import DecayError, UnitError
from torchdecay.optimizers.wrappers import scheduler_inside
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


@dataclass(frozen=True, kw_only=True)
class Run:
    r"""How long a training run is, in steps, epochs and samples, and how its learning rate moves.

    $$\text{steps} = \text{epochs} \cdot n, \qquad
    n = \left\lceil\frac{\text{num\_samples}}{\text{batch\_size}\cdot\text{accumulate}}\right\rceil$$

    A step is one of the optimizer's. Give what you know; what follows is worked out, and what contradicts is refused.

    Args:
        steps: optimizer steps in all, at least 1.
        epochs: passes over the data, above 0.
        batch_size: samples per forward pass.
        num_samples: samples in the data.
        lr: learning rate, where there is no optimizer to read it from.
        lr_schedule: a torch scheduler (a copy of it is run); a function from the step to a multiplier; or a name,
            "constant", "linear" or "cosine", which falls from `lr` to 0 over the run; None is constant.
        warmup_steps: for a schedule by name: steps in which the learning rate first rises from 0.
        scheduler_interval: whether the schedule goes on once per "step" or per "epoch".
        tokens_per_sample: for language models.
        accumulate: forward passes per optimizer step.

    Raises:
        UnitError: numbers that contradict each other, or none that says how long the run is.
        DecayError: a number outside its range.

    Example:
        >>> import torchdecay as td
        >>> td.Run(epochs=10, batch_size=128, num_samples=50_000).num_steps
        3910
    """

    steps: int | None = None
    epochs: float | None = None
    batch_size: int | None = None
    num_samples: int | None = None
    lr: float | None = None
    lr_schedule: Any = None
    warmup_steps: int = 0
    scheduler_interval: Literal["step", "epoch"] = "step"
    tokens_per_sample: int | None = None
    accumulate: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "num_samples", "tokens_per_sample", "accumulate"):
            if getattr(self, name) is not None:
                store(self, **{name: check_count(getattr(self, name), name)})
        for name in ("epochs", "lr"):
            if getattr(self, name) is not None:
                # Beyond this, products and quotients of them leave what a float can hold.
                store(self, **{name: check_number(getattr(self, name), name, minimum=1e-30, maximum=1e30)})
        check_word(self.scheduler_interval, "scheduler_interval", ("step", "epoch"))
        store(self, warmup_steps=check_count(self.warmup_steps, "warmup_steps", minimum=0))
        store(self, lr_schedule=scheduler_inside(self.lr_schedule))
        if isinstance(self.lr_schedule, str):
            check_name(self.lr_schedule)
        elif self.lr_schedule is not None and not (
            callable(self.lr_schedule)
            or any(hasattr(self.lr_schedule, name) for name in ("get_last_lr", "best", "base_lrs", "_get_lr"))
        ):
            raise DecayError(
                f"lr_schedule is {self.lr_schedule!r}, of type {type(self.lr_schedule).__name__}.",
                fix='Give a torch scheduler, a function from the step to a multiplier, or a name such as "cosine".',
            )
        if self.steps is None and self.epochs is None:
            raise UnitError(
                "the run has neither steps nor epochs.", fix="Write td.Run(steps=10_000), or epochs= with the data."
            )
        if self.steps is None and self.steps_per_epoch is None:
            raise UnitError(
                f"a run of {self.epochs:g} epochs can't be counted in steps.",
                "It lacks batch_size or num_samples.",
                "Give both, or steps= as well.",
            )
        self._refuse_contradiction()
        self._refuse_idle_warmup()

    def _refuse_contradiction(self) -> None:
        if self.steps is None or self.epochs is None:
            return
        if self.num_samples is None or self.batch_size is None:
            whole = self.epochs * max(1, round(self.steps / self.epochs))
            if not math.floor(whole) <= self.steps <= math.ceil(whole):
                raise UnitError(
                    f"steps={self.steps} contradicts epochs={self.epochs:g}: {self.steps / self.epochs:.4g} steps per "
                    "epoch.",
                    "The steps of an epoch are a whole number.",
                    f"Leave one of them out, or write steps={max(1, round(whole))}.",
                )
            return
        counted = self.epochs * math.ceil(self.num_samples / (self.batch_size * self.accumulate))
        # Dropping the last incomplete batch of each epoch is as common as keeping it.
        least = self.epochs * max(1, self.num_samples // (self.batch_size * self.accumulate))
        if not math.floor(least) <= self.steps <= math.ceil(counted):
            raise UnitError(
                f"steps={self.steps} contradicts epochs={self.epochs:g}, num_samples={self.num_samples}, "
                f"batch_size={self.batch_size}, accumulate={self.accumulate}, which make {math.ceil(counted)} steps.",
                fix="Leave one of them out, or correct it.",
            )

    def _refuse_idle_warmup(self) -> None:
        if not self.warmup_steps:
            return
        if not isinstance(self.lr_schedule, str):
            raise UnitError(
                f"warmup_steps={self.warmup_steps} goes with a schedule by name, and lr_schedule is "
                f"{self.lr_schedule!r}.",
                "A scheduler or a function has its own warm-up.",
                'Write lr_schedule="constant", "linear" or "cosine", or leave warmup_steps out.',
            )
        if self.warmup_steps >= self.num_steps:
            raise UnitError(
                f"warmup_steps={self.warmup_steps}, and the run has {self.num_steps} steps.",
                "The learning rate would never arrive.",
                "Warm up for fewer steps, or correct the run.",
            )

    @property
    def steps_per_epoch(self) -> int | None:
        """Optimizer steps per pass over the data, or None when that is not known."""
        if self.num_samples is not None and self.batch_size is not None:
            return math.ceil(self.num_samples / (self.batch_size * self.accumulate))
        if self.steps is not None and self.epochs is not None:
            return max(1, round(self.steps / self.epochs))
        return None

    @property
    def num_steps(self) -> int:
        """Optimizer steps in all."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None and self.steps_per_epoch is not None
        return max(1, round(self.epochs * self.steps_per_epoch))

    @property
    def num_epochs(self) -> float | None:
        """Passes over the data, or None when that is not known."""
        if self.epochs is not None:
            return self.epochs
        return None if self.steps_per_epoch is None else self.num_steps / self.steps_per_epoch

    @property
    def tokens_per_step(self) -> int | None:
        """Tokens per optimizer step, or None when that is not known."""
        if self.tokens_per_sample is None or self.batch_size is None:
            return None
        return self.tokens_per_sample * self.batch_size * self.accumulate


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
