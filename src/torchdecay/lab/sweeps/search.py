"""Which coefficients to try: stage by stage, each stage decided by what the earlier ones measured.

A search is a generator: it yields a batch of candidates, is sent the scores of all candidates so far, and yields the
next. Given the same scores it asks for the same candidates again, which is what lets an interrupted sweep go on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, TypeAlias

from torchdecay.arguments import check_count, check_number
from torchdecay.errors import TaskError, need
from torchdecay.lab.sweeps.surface import Surface
from torchdecay.text import nearest, repr_quoted, three_digits

KINDS = ("grid", "random", "tpe", "gp", "halving")
DRAWING = ("random", "tpe", "gp")
START, BATCH = 0.4, 4
"""Of the points so many are spread before a model is asked, and so many are asked for at a time."""
FINER = 8
"""How much finer than evenly spread points those are among which a model picks."""


@dataclass(frozen=True)
class Search:
    """Which coefficients a sweep tries, and at which learning rates; distances are those of a log scale.

    Args:
        low, high: the range of every coefficient, above 0; None comes from the task: from where a run takes
            1 % of a weight to where weights are forgotten in a hundredth of it, and below half of a weight a step.
        kind: "grid": the ends and the powers of ten between, then the rest of the points around the best; "random"
            and "tpe" (Optuna's samplers) draw from the range; "gp": where a Gaussian process over log λ, with the
            noise of the seeds, may have its best; "halving": a grid of which at two rungs only the better third goes
            on.
        points: how many coefficients in all, at least 2, for each of `lr_scales`; with groups the size of the whole
            grid.
        seed: for random, tpe and gp.
        lr_scales: multipliers of the learning rate, above 0; each is tried with every coefficient.
        race: whether values that are clearly worse than the best, seed by seed, get no more seeds from the fifth on;
            not with halving, which has its own way to stop some.
        values: coefficients that are named, above 0; then nothing else is tried. Zeros are left out: the run without
            decay is made in any case.

    Raises:
        TaskError: no such kind, or a range or number of points that means nothing.
        DecayError: a value or multiplier that is not above 0.

    Example:
        >>> Search(0.5, 50, points=8).high
        50
    """

    low: float | None = None
    high: float | None = None
    _: KW_ONLY
    kind: str = "grid"
    points: int = 12
    seed: int = 0
    lr_scales: Sequence[float] = (1.0,)
    race: bool = False
    values: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TaskError(
                f"there is no search {repr_quoted(str(self.kind))}.",
                f"Searches: {', '.join(KINDS)}.",
                nearest(str(self.kind), KINDS),
            )
        object.__setattr__(self, "lr_scales", _positive(self.lr_scales, "lr_scales"))
        if self.values is None:
            self._check_range()
        else:
            values = tuple(sorted(_positive([value for value in self.values if value], "values")))
            for name, value in (("values", values), ("low", values[0]), ("high", values[-1])):
                object.__setattr__(self, name, value)
            if self.kind in DRAWING:
                raise TaskError(
                    f"the values are named, so there is nothing for the search {self.kind} to draw.",
                    fix="Leave the values out and give a range, or search grid.",
                )
        if self.race and self.kind == "halving":
            raise TaskError(
                "values are both raced and halved.",
                "Halving compares all seeds of a value at a rung, and a race gives them one after the other.",
                "Leave one of them out.",
            )
        check_count(self.points, "the number of points", minimum=2, error=TaskError)

    def _check_range(self) -> None:
        for name, value in (("low", self.low), ("high", self.high)):
            if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise TaskError(
                    f"the range goes from {self.low!r} to {self.high!r}, and {name} is no positive number.",
                    "Coefficients are tried on a log scale; the run without decay is always there as well.",
                    "Write a range such as 1e-4 to 10.",
                )
        if self.low is None or self.high is None:
            return
        if self.low == self.high:
            raise TaskError(
                f"the range goes from {self.low:g} to {self.high:g}, so it is empty.",
                fix="Name two different ends, or a single value under values.",
            )
        if self.low > self.high:
            raise TaskError(
                f"the range goes from {self.low:g} to {self.high:g}, so it is reversed.",
                fix=f"Write the smaller one first: {self.high:g} to {self.low:g}.",
            )

    def within(self, low: float, high: float) -> Search:
        """The search with ends where it has none."""
        if self.low is not None:
            low, high = self.low, max(high, 100 * self.low)
        if self.high is not None:
            low, high = min(low, self.high / 100) if self.low is None else low, self.high
        return replace(self, low=low, high=high)

    @property
    def ends(self) -> tuple[float, float]:
        """The range, where it is known."""
        assert self.low is not None and self.high is not None
        return self.low, self.high

    @property
    def middle(self) -> float:
        """The middle of the range, on a log scale."""
        return math.sqrt(math.prod(self.ends))

    def batches(self, num_groups: int = 1) -> Batches:
        """What to try, batch by batch, with so many coefficients each."""
        if self.kind == "random":
            sampler = need("optuna.samplers", "lab").RandomSampler(seed=self.seed)
            return _drawn(self, num_groups, sampler, batch=self.points)
        if self.kind == "tpe":
            start = max(2, math.ceil(START * self.points))
            make = need("optuna.samplers", "lab").TPESampler
            sampler = make(seed=self.seed, n_startup_trials=start, constant_liar=True)
            return _drawn(self, num_groups, sampler, batch=BATCH)
        if self.kind == "gp":
            return _modeled(self, num_groups)
        return _grid(self, num_groups)


def as_search(search: str | tuple[float, float] | Search, values: Iterable[float] | None) -> Search:
    """A search from its kind, from the two ends of a range, or as it is; with named values where there are some."""
    if isinstance(search, str):
        search = Search(kind=search)
    elif not isinstance(search, Search):
        if not isinstance(search, (tuple, list)) or len(search) != 2:
            raise TaskError(
                f"search is {search!r}.", fix='Write a kind, "tpe", a range, (0.1, 10), or Search(0.1, 10, points=8).'
            )
        search = Search(*search)
    return search if values is None else replace(search, values=tuple(values))


def _positive(values: Iterable[float], name: str) -> tuple[float, ...]:
    made = tuple(check_number(value, name, open_minimum=True) for value in values)
    if not made or len(set(made)) != len(made):
        raise TaskError(
            f"{name} is {list(made)}.",
            "Each must be a number above 0, and there once; the run without decay is made in any case.",
            f"Write {name}=[0.1, 1, 10], say.",
        )
    return made


@dataclass(frozen=True)
class Candidate:
    """One thing to try: a coefficient per group, a single one, or none, at a multiplier of the learning rate."""

    values: tuple[float, ...]
    lr_scale: float = 1.0


Scores: TypeAlias = Mapping[Candidate, Mapping[int, float]]
Batches: TypeAlias = Generator[tuple[Candidate, ...], Scores, None]
"""Scores: by seed, more is better; candidates without a whole run are left out."""


def means_of(scores: Scores) -> dict[Candidate, float]:
    """Means over seeds, those that are not finite left out."""
    means = {one: sum(some.values()) / len(some) for one, some in scores.items()}
    return {one: value for one, value in means.items() if math.isfinite(value)}


def _grid(search: Search, num_groups: int) -> Batches:
    """The ends and the powers of ten between them first, then the rest of the budget around the best."""
    refine = search.kind == "grid" and num_groups == 1 and len(search.lr_scales) == 1
    low, high = search.ends
    tens = powers_of_ten(low, high)
    ends = tuple(sorted({float(low), *tens, float(high)}))
    if search.values is not None:
        axis, refine = tuple(search.values), False
    elif refine and tens and len(ends) <= search.points:
        axis = ends
    else:
        # With k groups the budget is that of the whole grid.
        axis = spaced(low, high, max(2, int(search.points ** (1 / num_groups) + 1e-9)))
        refine = False
    scores = means_of(
        (
            yield tuple(
                Candidate(values, scale)
                for scale in search.lr_scales
                for values in itertools.product(axis, repeat=num_groups)
            )
        )
    )
    left = search.points - len(axis)
    if not refine or not left or not scores:
        return
    # Where several do equally well, most often because they do nothing, the strong end of them is looked into.
    best, scale = max(scores, key=lambda one: (scores[one], one.values)).values[0], search.lr_scales[0]
    below = [value for value in axis if value < best][-1:]
    above = [value for value in axis if value > best][:1]
    sides = [sorted((best, other)) for other in (*below, *above)]
    # The better neighbor's side gets the odd one.
    sides.sort(key=lambda side: -max(scores.get(Candidate((end,), scale), -math.inf) for end in side if end != best))
    yield tuple(
        Candidate((value,), scale)
        for index, (below_it, above_it) in enumerate(sides)
        for value in between(below_it, above_it, (left + len(sides) - 1 - index) // len(sides))
    )


def _drawn(search: Search, num_groups: int, sampler: Any, *, batch: int) -> Batches:
    """What an Optuna sampler draws, in batches."""
    optuna = need("optuna", "lab")
    log = optuna.distributions.FloatDistribution(*search.ends, log=True)
    axes = {f"coefficient {i}": log for i in range(num_groups)}
    if len(search.lr_scales) > 1:
        axes["lr_scale"] = optuna.distributions.CategoricalDistribution(search.lr_scales)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=sampler)
    finally:
        optuna.logging.set_verbosity(verbosity)
    left = search.points * len(search.lr_scales)
    while left:
        asked = [study.ask(axes) for _ in range(min(batch, left))]
        candidates = tuple(
            Candidate(
                tuple(three_digits(trial.params[f"coefficient {i}"]) for i in range(num_groups)),
                trial.params.get("lr_scale", search.lr_scales[0]),
            )
            for trial in asked
        )
        scores = means_of((yield tuple(dict.fromkeys(candidates))))
        for trial, candidate in zip(asked, candidates, strict=True):
            if candidate in scores:
                study.tell(trial, scores[candidate])
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
        left -= len(asked)


def _modeled(search: Search, num_groups: int) -> Batches:
    """Spread points first, then where draws of a Gaussian process have their best (Thompson sampling)."""
    np = need("numpy", "lab")
    random, scales = np.random.RandomState(search.seed), search.lr_scales

    def spread(count: int) -> tuple[Candidate, ...]:
        """Evenly with one coefficient; of several by chance, as a grid of them would be coarse."""
        rows = [(value,) for value in spaced(*search.ends, max(2, count))]
        if num_groups > 1:
            rows = [*map(tuple, 10 ** random.uniform(*np.log10(search.ends), (count, num_groups)))]
        return tuple(Candidate(tuple(map(three_digits, row)), scale) for scale in scales for row in rows)

    batch, tried = spread(math.ceil(START * search.points)), list[Candidate]()
    while batch:
        tried += batch
        scores = yield batch
        left = search.points * len(scales) - len(tried)
        if left <= 0 or not scores:
            return
        surface = Surface.of({_place(one): some for one, some in scores.items()})
        # No finer than what seeds could tell apart.
        pool = [one for one in spread(FINER * search.points) if one not in tried]
        draws = surface.draws([_place(one) for one in pool], min(BATCH, left), int(random.randint(2**31)))
        batch = tuple(dict.fromkeys(pool[best] for best in draws.argmax(axis=1)))


def _place(candidate: Candidate) -> tuple[float, ...]:
    return tuple(map(math.log10, (*candidate.values, candidate.lr_scale)))


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
    return tuple(three_digits(low * ratio ** (i / (count + 1))) for i in range(1, count + 1))
