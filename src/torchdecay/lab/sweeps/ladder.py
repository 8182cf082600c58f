"""`ladder`: sweeps at several sizes, and how the best value goes with size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from torchdecay.arguments import check_number
from torchdecay.errors import TaskError, need
from torchdecay.lab.comparisons.statistics import LEVEL
from torchdecay.lab.sweeps.optimum import Optimum, brackets
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.lab.sweeps.sweep import sweep
from torchdecay.printing import words_of
from torchdecay.records import JsonRecord

FEWEST_SIZES = 2


@dataclass(frozen=True, kw_only=True)
class Ladder(JsonRecord, kind="ladder"):
    r"""Sweeps of one task at several sizes, and the exponent of the best value. Made by `torchdecay.lab.ladder`.

    $$\hat\lambda(N) \propto N^a$$

    Each size's best value is known as an interval (`Sweep.optimum`). In each of many draws from it, one per size, a
    straight line is laid through log λ over log N; a is the middle of their slopes, its interval their 95 %.

    Attributes:
        sizes: N, ascending.
        sweeps: one for each size.
    """

    _derived: ClassVar = ("optima", "exponent", "why_not")
    sizes: tuple[float, ...]
    sweeps: tuple[Sweep, ...]

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.sweeps) or list(self.sizes) != sorted(set(self.sizes)):
            raise TaskError(f"{len(self.sweeps)} sweeps stand beside the sizes {list(self.sizes)}.")

    @property
    def optima(self) -> tuple[Optimum | None, ...]:
        """Where the best value of each size lies."""
        return tuple(one.optimum for one in self.sweeps)

    @property
    def exponent(self) -> tuple[float, float, float] | None:
        """The exponent a, and its interval at 95 %; None where a size's best value is not known or lies at an end."""
        found = self._lines
        if found is None:
            return None
        slopes, _ = found
        low, middle, high = need("numpy", "lab").quantile(slopes, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
        return float(middle), float(low), float(high)

    @property
    def why_not(self) -> str:
        """Why nothing can be said of other sizes; "" where something can."""
        for size, one, found in zip(self.sizes, self.optima, self.sweeps, strict=True):
            if one is None:
                why = "has no chosen value" if found.best is None or found.best.point.is_bare else "has too few"
                return f"the sweep at size {size:g} {why}{'' if 'no' in why else ' values or seeds'}"
            if one.opens_down or one.opens_up:
                end = "strongest" if one.opens_up else "weakest"
                return f"at size {size:g} the best value may lie beyond the {end} that was tried"
        known = [one for one in self.optima if one is not None]
        if max(one.low for one in known) <= min(one.high for one in known):
            return "the intervals of all sizes overlap, so these seeds don't show that the best value moves"
        found_exponent = self.exponent
        assert found_exponent is not None
        if found_exponent[1] <= 0 <= found_exponent[2]:
            return "the exponent may be 0, so these seeds don't show which way the best value moves"
        return ""

    def at(self, size: float) -> tuple[float, float, float]:
        """The best value to expect at another size, and its interval at 95 %, if the line goes on.

        Raises:
            TaskError: the seeds don't show that the best value moves, so there is nothing to go on from.
        """
        size = check_number(size, "size", open_minimum=True)
        if self.why_not or self._lines is None:
            raise TaskError(
                f"no value can be foretold for size {size:g}: {self.why_not}.",
                fix="Run more seeds, more values around the best, or sizes further apart.",
            )
        slopes, at_one = self._lines
        np = need("numpy", "lab")
        low, middle, high = np.quantile(at_one + slopes * math.log(size), [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
        return math.exp(middle), math.exp(low), math.exp(high)

    @cached_property
    def _lines(self) -> tuple[Any, Any] | None:
        """Slopes, and log λ at size 1, of a line through one draw per size."""
        np = need("numpy", "lab")
        random, columns = np.random.RandomState(0), []
        for one in self.sweeps:
            found = brackets(one.scores_by_value()) if one.optimum is not None else None
            if found is None:
                return None
            low, high = map(np.log, found)
            # Between the neighbors of the best value one place is as good as another.
            columns.append(random.permutation(random.uniform(low, high)))
        x, y = np.log(self.sizes), np.array(columns)
        slopes = ((x - x.mean())[:, None] * y).sum(axis=0) / ((x - x.mean()) ** 2).sum()
        return slopes, y.mean(axis=0) - slopes * x.mean()

    def __str__(self) -> str:
        return words_of(self)


def ladder(task_of_size: Callable[[Any], Any], sizes: Iterable[float], form: Any = None, **options: Any) -> Ladder:
    """Sweep a task at several sizes, and find the exponent with which the best value goes.

    Where the intervals of all sizes overlap, nothing is said of other sizes: two best values that seeds can't tell
    apart make a line of any slope. `sweep` in contrast knows one size.

    Args:
        task_of_size: a size to what `sweep` takes: a `Task`, a function that trains, a `Command`.
        sizes: two positive numbers or more: widths, parameters, steps, rows, whatever should be asked.
        form: as for `sweep`.
        **options: all else that `sweep` takes: values, seeds, search, engine, store, ...

    Returns:
        A `Ladder`: print it, read `.exponent`, `.optima` and `.sweeps`; `.at(size)` goes on.

    Raises:
        TaskError: fewer than two sizes, or what `sweep` refuses.

    Example:
        >>> import dataclasses
        >>> from torchdecay.lab import ladder, task_named
        >>> def of_steps(steps):
        ...     return dataclasses.replace(task_named("digits"), num_steps=int(steps))
        >>> found = ladder(of_steps, [20, 40], values=[1, 10, 100, 300], seeds=3, engine="serial")
        >>> found.sizes, len(found.sweeps)
        ((20.0, 40.0), 2)

    Reference: how the best weight decay goes with data and model, Power Lines, arXiv 2505.13738.
    """
    named = sorted({check_number(size, "a size", open_minimum=True) for size in sizes})
    if len(named) < FEWEST_SIZES:
        raise TaskError(
            f"a ladder has {len(named)} size{'' if len(named) == 1 else 's'}.",
            "An exponent is a slope over sizes.",
            "Name two or more, best far apart: [64, 256, 1024].",
        )
    found: list[Sweep] = []
    for size in named:
        found.append(sweep(task_of_size(size), form, **options))
        if found[-1].interrupted:
            raise KeyboardInterrupt
    return Ladder(sizes=tuple(named), sweeps=tuple(found))
