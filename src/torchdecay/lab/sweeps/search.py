"""Which coefficients to try: stage by stage, each stage decided by what the earlier ones measured.

A search is a generator: it yields a batch of candidates, is sent the scores of all candidates so far, and yields the
next. Given the same scores it asks for the same candidates again, which is what lets an interrupted sweep go on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torchdecay.errors import TaskError, need
from torchdecay.text import nearest, repr_quoted

SEARCHES = ("grid", "random", "tpe", "halving")
LOW, HIGH, POINTS = 1e-4, 10.0, 12
TPE_START, TPE_BATCH = 0.4, 4


@dataclass(frozen=True)
class Candidate:
    """One thing to try.

    Attributes:
        values: one coefficient per group; a single one without groups.
        lr_scale: multiplier of the learning rate.
    """

    values: tuple[float, ...]
    lr_scale: float = 1.0


Scores: TypeAlias = Mapping[Candidate, float]
Search: TypeAlias = Generator[tuple[Candidate, ...], Scores, None]
"""Scores: more is better; candidates without a usable one are left out."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """Where to look.

    Attributes:
        low, high: the range of every coefficient.
        points: how many candidates in all, for each `lr_scale`.
        num_groups: coefficients per candidate.
        lr_scales: multipliers of the learning rate.
        values: coefficients that were named; then nothing else is tried.
    """

    low: float = LOW
    high: float = HIGH
    points: int = POINTS
    num_groups: int = 1
    lr_scales: tuple[float, ...] = (1.0,)
    values: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name, value in (("low", self.low), ("high", self.high)):
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise TaskError(
                    f"the range goes from {self.low!r} to {self.high!r}, and {name} is no positive number.",
                    "Coefficients are tried on a log scale; the run without decay is always there as well.",
                    "Write a range such as 1e-4 to 10.",
                )
        if self.values is None and self.low >= self.high:
            raise TaskError(
                f"the range goes from {self.low:g} to {self.high:g}, so it is "
                + ("reversed." if self.low > self.high else "empty."),
                fix=f"Write the smaller one first: {self.high:g} to {self.low:g}."
                if self.low > self.high
                else "Name two different ends, or a single value under values.",
            )
        if isinstance(self.points, bool) or not isinstance(self.points, int) or self.points < 2:
            raise TaskError(f"the number of points is {self.points!r}.", fix="Ask for at least two.")


def search_named(name: str, space: Space, *, seed: int) -> Search:
    """The search of this name over a space.

    Raises:
        TaskError: no such search, or one that does not go with named values.
    """
    if name not in SEARCHES:
        raise TaskError(
            f"there is no search {repr_quoted(name)}.", f"Searches: {', '.join(SEARCHES)}.", nearest(name, SEARCHES)
        )
    if space.values is not None and name in ("random", "tpe"):
        raise TaskError(
            f"the values are named, so there is nothing for the search {name} to draw.",
            fix="Leave the values out and give a range, or search grid.",
        )
    if name == "random":
        return _drawn(space, need("optuna.samplers", "lab").RandomSampler(seed=seed), batch=space.points)
    if name == "tpe":
        start = max(2, math.ceil(TPE_START * space.points))
        sampler = need("optuna.samplers", "lab").TPESampler(seed=seed, n_startup_trials=start, constant_liar=True)
        return _drawn(space, sampler, batch=TPE_BATCH)
    return _grid(space, refine=name == "grid")


def _grid(space: Space, *, refine: bool) -> Search:
    """Powers of ten first, then the rest of the budget around the best of them."""
    single = space.num_groups == 1 and len(space.lr_scales) == 1
    tens = powers_of_ten(space.low, space.high)
    if space.values is not None:
        axis, refine = space.values, False
    elif refine and single and 2 <= len(tens) <= space.points:
        axis = tens
    else:
        # With k groups the budget is that of the whole grid.
        axis = spaced(space.low, space.high, max(2, int(space.points ** (1 / space.num_groups) + 1e-9)))
        refine = False
    scores = yield tuple(
        Candidate(values, scale)
        for scale in space.lr_scales
        for values in itertools.product(axis, repeat=space.num_groups)
    )
    left = space.points - len(axis)
    if not refine or not left or not scores:
        return
    best = max(scores, key=scores.__getitem__).values[0]
    below = [value for value in axis if value < best][-1:]
    above = [value for value in axis if value > best][:1]
    sides = [sorted((best, other)) for other in (*below, *above)]
    # The better neighbor's side gets the odd one.
    sides.sort(key=lambda side: -max(scores.get(Candidate((end,)), -math.inf) for end in side if end != best))
    yield tuple(
        Candidate((value,))
        for index, (low, high) in enumerate(sides)
        for value in between(low, high, (left + len(sides) - 1 - index) // len(sides))
    )


def _drawn(space: Space, sampler: Any, *, batch: int) -> Search:
    """What an Optuna sampler draws, in batches."""
    optuna = need("optuna", "lab")
    log = optuna.distributions.FloatDistribution(space.low, space.high, log=True)
    axes = {f"coefficient {i}": log for i in range(space.num_groups)}
    if len(space.lr_scales) > 1:
        axes["lr_scale"] = optuna.distributions.CategoricalDistribution(space.lr_scales)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=sampler)
    finally:
        optuna.logging.set_verbosity(verbosity)
    left = space.points * len(space.lr_scales)
    while left:
        asked = [study.ask(axes) for _ in range(min(batch, left))]
        candidates = tuple(
            Candidate(
                tuple(rounded(trial.params[f"coefficient {i}"]) for i in range(space.num_groups)),
                trial.params.get("lr_scale", space.lr_scales[0]),
            )
            for trial in asked
        )
        scores = yield tuple(dict.fromkeys(candidates))
        for trial, candidate in zip(asked, candidates, strict=True):
            if candidate in scores:
                study.tell(trial, scores[candidate])
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
        left -= len(asked)


def powers_of_ten(low: float, high: float) -> tuple[float, ...]:
    """Those in [low, high]."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return tuple(float(f"1e{exponent}") for exponent in range(first, last + 1))


def spaced(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` numbers, evenly on a log scale, both ends among them."""
    inner = between(low, high, count - 2)
    return tuple(dict.fromkeys((float(low), *inner, float(high))))


def between(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` numbers strictly between, evenly on a log scale."""
    ratio = high / low
    return tuple(rounded(low * ratio ** (i / (count + 1))) for i in range(1, count + 1))


def rounded(value: float) -> float:
    """Three digits: more can't be told apart, and people read these."""
    return float(f"{value:.3g}")
