"""Sweeps and comparisons in which decay does nothing: how often do they claim that it does?

Every run of a seed measures the seed's own level (its data and initial weights) and noise of its own; a score is a
share of so many rows, and so moves in steps. What they claim is what the package says: whether the chosen value
differs from no decay on the test rows, and whether any decay of a comparison differs from none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import random
from collections.abc import Iterator

from torchdecay.lab.sweeps.points import Point
from torchdecay.lab.sweeps.racing import rounds_of, still_racing
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.lab.sweeps.search import Candidate, Search
from torchdecay.lab.training.results import TrainingRun

ROWS = (0, 20, 100, 1000)
"""Rows behind a score; 0 is a loss, which has no steps."""
SEEDS = (2, 3, 5, 10)
VALUES = (1, 3, 12)
NOISE = (0.003, 0.02)
"""Standard deviation of a run about its seed's level: below the steps of a score, and about one."""
SHARED = (0.0, 0.9)
"""How much of a run's variance its validation and its test rows share: what is lucky on the one is on the other."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What is simulated."""

    rows: int
    seeds: int
    values: int
    noise: float
    shared: float
    search: str = "grid"
    race: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claims:
    """Of so many, how many claimed a difference."""

    sweeps: int
    by_sweep: int
    by_comparison: int

    def share(self, claims: int) -> float:
        return claims / self.sweeps

    def error(self, claims: int) -> float:
        """The standard error of a share."""
        share = max(self.share(claims), 1 / self.sweeps)
        return math.sqrt(share * (1 - share) / self.sweeps)

    def __add__(self, other: Claims) -> Claims:
        return Claims(
            sweeps=self.sweeps + other.sweeps,
            by_sweep=self.by_sweep + other.by_sweep,
            by_comparison=self.by_comparison + other.by_comparison,
        )


def settings() -> Iterator[Setting]:
    """All of them."""
    for rows, seeds, values, noise, shared in itertools.product(ROWS, SEEDS, VALUES, NOISE, SHARED):
        yield Setting(rows=rows, seeds=seeds, values=values, noise=noise, shared=shared)


def null_sweep(setting: Setting, draw: random.Random) -> Sweep:
    """A sweep whose runs differ by their seed and by chance alone."""

    def measured(level: float) -> float:
        value = draw.gauss(level, setting.noise * math.sqrt(1 - setting.shared))
        if not setting.rows:
            return value
        # The rows are the same for all runs of a seed, so that only what a run does differently moves the score.
        return min(1.0, max(0.0, round(value * setting.rows) / setting.rows))

    kind, seeds = "score" if setting.rows else "loss", range(setting.seeds)
    levels = [draw.gauss(0.9, 0.03) for _ in seeds]

    def run(label: str, seed: int) -> TrainingRun:
        own = draw.gauss(levels[seed], setting.noise * math.sqrt(setting.shared))
        ends = {part: (0.0, measured(own)) for part in ("validation", "test")}
        curves = {f"{part}_{kind}": values for part, values in ends.items()}
        flat = {name: (1.0, 1.0) for name in ("train_loss", "test_loss", "validation_loss")}
        flat |= {name: (1.0, 1.0) for name in ("weight_norm", "gradient_norm")}
        return TrainingRun(label=label, decay=label, seed=seed, steps=(0, 10), seconds=0.0, **flat | curves)

    runs = [run("none", seed) for seed in seeds]
    scores: dict[Candidate, dict[int, float]] = {}
    points = {"none": Point(label="none", decay="none")}
    for batch in _batches(setting, scores):
        labels = {f"decoupled({one.values[0]:g})": one for one in batch}
        points |= {label: Point(label=label, decay=label, value=one.values[0]) for label, one in labels.items()}
        racing, done = set(labels), 0
        for some in rounds_of(seeds) if setting.race else [seeds]:
            if done:
                known = {f"decoupled({one.values[0]:g})": found for one, found in scores.items()}
                racing = still_racing(known, racing, seeds[:done])
            made = [run(label, seed) for seed in some for label in labels if label in racing]
            for one in made:
                value = one.final(f"validation_{kind}")
                scores.setdefault(labels[one.label], {})[one.seed] = value if setting.rows else -value
            runs, done = [*runs, *made], done + len(some)
    return Sweep(
        task="null",
        title="null",
        step_name="step",
        score_name="accuracy" if setting.rows else "",
        form="decoupled",
        points=tuple(points.values()),
        runs=tuple(runs),
        seeds=tuple(range(setting.seeds)),
        num_steps=10,
        low=1.0,
        high=float(setting.values),
        search=setting.search,
        race=setting.race,
        engine="serial",
    )


def _batches(setting: Setting, scores: dict[Candidate, dict[int, float]]) -> Iterator[tuple[Candidate, ...]]:
    """What is tried: named values, or what a search asks for, going by the scores so far."""
    search = Search(1.0, 1000.0, points=max(2, setting.values), kind=setting.search)
    if setting.search == "grid":
        search = Search(values=[float(value) for value in range(1, setting.values + 1)])
    batches = search.batches()
    with contextlib.suppress(StopIteration):
        batch = next(batches)
        while True:
            yield batch
            batch = batches.send(scores)


def claims_of(setting: Setting, sweeps: int, draw: random.Random) -> Claims:
    """How often so many null sweeps claim something."""
    found = Claims(sweeps=sweeps, by_sweep=0, by_comparison=0)
    for _ in range(sweeps):
        made = null_sweep(setting, draw)
        best = made.best
        by_sweep = best is not None and best.against is not None and best.against.better is not None
        by_comparison = any(one.better is not None for one in made.comparison().contrasts)
        found += Claims(sweeps=0, by_sweep=by_sweep, by_comparison=by_comparison)
    return found
