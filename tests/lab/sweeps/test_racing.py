"""Racing: what is clearly worse, seed by seed, gets no further seeds; what is claimed does not change."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
import torch
from scipy.stats import wilcoxon

import torchdecay as td
from sweeping import task
from torchdecay.errors import TaskError
from torchdecay.lab.sweeps.racing import p_worse, rounds_of, still_racing
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.lab.sweeps.search import Search
from torchdecay.lab.sweeps.sweep import sweep
from torchdecay.reports.sweep.advice import notices
from torchdecay.reports.sweep.points import Points

SEEDS = 6


def fast(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.5)


@pytest.fixture(scope="module")
def raced() -> Sweep:
    """A value that does nothing, where rows are learned by heart, and two that help."""
    search = Search(values=[1e-6, 0.1, 1.9], race=True)
    return sweep(task(num_steps=60, eval_every=20, optimizer=fast), search=search, seeds=SEEDS, engine="serial")


def test_the_test_is_scipys() -> None:
    """Exact p-values of the one-sided signed-rank test, where no sizes are equal."""
    draw = random.Random(0)
    for count in (3, 4, 7, 10):
        lacks = [draw.gauss(0.3, 1) for _ in range(count)]
        assert p_worse(lacks) == pytest.approx(wilcoxon(lacks, alternative="greater", mode="exact").pvalue)


def test_ties_and_seeds_without_a_difference_count_half() -> None:
    """Four pairs that agree can't tell; with one pair in four that is equal the other three are not enough."""
    assert p_worse([0.0] * 4) == 1.0
    assert p_worse([1.0] * 4) == 1 / 16
    assert p_worse([0.0, 1.0, 1.0, 1.0]) == 1 / 8


def test_four_seeds_that_all_agree_are_the_least() -> None:
    """Three can't show it, whatever their size; who diverged is out, and who failed stays."""
    scores = {
        "a": dict.fromkeys(range(4), 1.0),
        "b": dict.fromkeys(range(4), 0.9),
        "c": {0: 1.0, 1: float("nan"), 2: 1.0, 3: 1.0},
        "d": {0: 0.1},
    }
    assert still_racing(scores, scores, range(3)) == {"a", "b", "d"}
    assert still_racing(scores, scores, range(4)) == {"a", "d"}
    assert still_racing({}, ["a"], range(4)) == {"a"}
    assert rounds_of(range(6)) == [range(4), [4], [5]]


def test_the_worse_leaves_and_the_others_get_all_seeds(raced: Sweep) -> None:
    """Whoever leads and the run without decay have every seed; what left the race does not compete."""
    counts = {point.label: len(raced.of(point.label)) for point in raced.points}
    assert 4 <= counts["decoupled(1e-06)"] < SEEDS and counts["none"] == SEEDS
    assert raced.left_race == tuple(label for label, count in counts.items() if count < SEEDS)
    assert raced.best is not None and raced.best.num_seeds == SEEDS


def test_page_and_verdict_say_who_left(raced: Sweep) -> None:
    """As such, and not as runs that are missing."""
    assert "Raced: " in td.verdict(raced) and "do not compete" in td.verdict(raced)
    assert [one.head for one in notices(Points(raced)) if "Not all runs" in one.head] == []
    assert Sweep.from_json(raced.to_json()) == raced


def test_the_level_counts_those_that_left(raced: Sweep) -> None:
    """The best of three is judged as such, also where two of them had left."""
    assert raced.best is not None and raced.best.against is not None
    assert raced.best.against.level == pytest.approx(1 - 0.05 / 3)


def test_a_race_that_nobody_could_leave_is_refused() -> None:
    """With four seeds or fewer, and beside halving."""
    with pytest.raises(TaskError, match="none could leave the race"):
        sweep(task(), search=Search(values=[0.1], race=True), seeds=4)
    with pytest.raises(TaskError, match="both raced and halved"):
        dataclasses.replace(Search(kind="halving"), race=True)
