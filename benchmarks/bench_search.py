"""How many runs each search needs until what it chooses is within one standard error of the best.

A task is trained once with a dense grid of values and several seeds; between those values scores are read off by
straight lines over log λ, seed by seed. On that table each search is repeated with seeds in another order and a seed of
its own, with more and more points, until the true mean of what it chooses is within one standard error of the best true
mean: that of a difference between neighboring values, over three seeds. Runs count as they are paid for: those without
decay too, and a run that halving stopped counts for its steps.
"""

from __future__ import annotations

import dataclasses
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from paired import Check, Options, Spread, main
from torchdecay import lab
from torchdecay.lab.sweeps.racing import rounds_of, still_racing
from torchdecay.lab.sweeps.search import Candidate, Search, means_of, spaced
from torchdecay.lab.tasks.task import Task

BUDGETS = (3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24)
SEEDS = 8
ERROR_SEEDS = 3
WAYS = (
    ("grid", 3, False), ("random", 3, False), ("tpe", 3, False), ("gp", 3, False), ("halving", 3, False),
    ("grid", 8, False), ("grid", 8, True), ("gp", 8, True),
)  # fmt: skip
NONE = Candidate((0.0,))


@dataclasses.dataclass(frozen=True)
class Table:
    """What was measured: for each value (0 is none) and seed the deciding curve, more being better."""

    curves: Mapping[float, Sequence[Sequence[float]]]

    @cached_property
    def values(self) -> list[float]:
        return sorted(value for value in self.curves if value)

    @cached_property
    def _array(self) -> np.ndarray:
        return np.array([self.curves[value] for value in self.values])

    def score(self, value: float, seed: int, share: float = 1.0) -> float:
        """After a share of the steps."""
        point = round(share * (self._array.shape[2] - 1))
        if not value:
            return float(self.curves[0.0][seed][point])
        return float(np.interp(np.log(value), np.log(self.values), self._array[:, seed, point]))

    def truth(self, value: float) -> float:
        return float(np.mean([self.score(value, seed) for seed in range(SEEDS)]))

    @cached_property
    def enough(self) -> float:
        """The best true mean, less a standard error of what tells it from values close by, seed by seed."""
        best = max((0.0, *spaced(self.values[0], self.values[-1], 200)), key=self.truth)
        near = sorted(self.values, key=lambda value: abs(np.log(value / best)) if best else value)[:4]
        apart = [[self.score(best, seed) - self.score(value, seed) for seed in range(SEEDS)] for value in near]
        return self.truth(best) - float(np.mean(np.std(apart, axis=1, ddof=1))) / ERROR_SEEDS**0.5


def measured(task: Task, low: float, high: float, count: int, folder: Path) -> Table:
    found = lab.sweep(
        task,
        "decoupled",
        spaced(low, high, count),
        seeds=SEEDS,
        engine="stacked",
        store=lab.Store(folder / f"{task.name}.db", resume=True),
    )
    sign = 1.0 if found.higher_is_better else -1.0
    return Table(
        {
            point.value or 0.0: [[sign * one for one in getattr(run, found.measure)] for run in found.of(point.label)]
            for point in found.points
        }
    )


def needed(table: Table, kind: str, num_seeds: int, race: bool, repeat: int) -> tuple[float, bool]:
    """The runs of the first budget whose choice is good enough; those of the last where none is, and False."""
    seeds = random.Random(repeat).sample(range(SEEDS), num_seeds)
    cost = 0.0
    for points in BUDGETS:
        search = Search(table.values[0], table.values[-1], points=points, kind=kind, seed=repeat)
        choice, cost = halved(table, search, seeds) if kind == "halving" else searched(table, search, seeds, race)
        if table.truth(choice) >= table.enough:
            return cost, True
    return cost, False


def searched(table: Table, search: Search, seeds: Sequence[int], race: bool) -> tuple[float, float]:
    """What a search chooses, and how many runs that took."""
    scores = {NONE: {seed: table.score(0.0, seed) for seed in seeds}}
    batches = search.batches()
    with suppress(StopIteration):
        batch = next(batches)
        while True:
            racing, done = set(batch), 0
            for some in rounds_of(seeds) if race else [seeds]:
                if done:
                    racing = still_racing(scores, racing, seeds[:done])
                for one in batch:
                    if one in racing:
                        own = scores.setdefault(one, {})
                        own.update({seed: table.score(one.values[0], seed) for seed in some})
                done += len(some)
            batch = batches.send({one: own for one, own in scores.items() if one is not NONE})
    whole = means_of({one: own for one, own in scores.items() if len(own) == len(seeds)})
    return max(whole, key=whole.__getitem__).values[0], sum(map(len, scores.values()))


def halved(table: Table, search: Search, seeds: Sequence[int]) -> tuple[float, float]:
    going, cost, before = [one.values[0] for one in next(search.batches())], float(len(seeds)), 0.0
    for share in (1 / 9, 1 / 3, 1.0):
        cost, before = cost + len(seeds) * len(going) * (share - before), share
        means = {value: np.mean([table.score(value, seed, share) for seed in seeds]) for value in (*going, 0.0)}
        if share < 1:
            going = sorted(going, key=lambda value: -means[value])[: -(-len(going) // 3)]
    return max((*going, 0.0), key=lambda value: means[value]), cost


def measure(options: Options) -> Iterator[Check]:
    """One figure for each task and way to search."""
    quick, named = options.quick, lab.task_named
    tasks = (
        (named("digits"), 60 if quick else 300, 0.1, 300.0, 17),
        (named("ridge"), 60 if quick else 1200, 0.001, 10.0, 17),
        (named("grokking"), 25 if quick else 600, 0.1, 30.0, 9),
    )
    # Kept there, so that another look at the searches does not train again.
    folder = Path(tempfile.gettempdir()) / f"torchdecay-search{'-quick' if quick else ''}"
    folder.mkdir(exist_ok=True)
    for task, steps, low, high, count in tasks[: 1 if quick else None]:
        table = measured(dataclasses.replace(task, num_steps=steps), low, high, 5 if quick else count, folder)
        for kind, num_seeds, race in WAYS:
            found = [needed(table, kind, num_seeds, race, repeat) for repeat in range(options.repeats)]
            lost = sum(not reached for _, reached in found)
            told = f"; {lost} of {len(found)} never came there" if lost else ""
            what = f"{task.name}, {kind}{', raced' if race else ''}, {num_seeds} seeds{told}"
            yield Check(what, Spread.of([cost for cost, _ in found]), unit="runs")


if __name__ == "__main__":
    main("search", measure, repeats=24)
