"""Where the best value lies: the interval holds it as often as it says, and claims nothing from too little."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

import null_sweeps
from torchdecay.lab.sweeps.optimum import Optimum, optimum_of
from torchdecay.lab.sweeps.search import spaced

VALUES = (0.01, 0.1, 0.3, 0.55, 1.0, 1.7, 3.0, 10.0, 100.0)


def smooth(log: float) -> float:
    """Its best is at 2.5."""
    return -0.02 * (log - math.log10(2.5)) ** 2


def cliff(log: float) -> float:
    """Slowly better up to 2.5, then a collapse."""
    past = log - math.log10(2.5)
    return 0.02 * past if past < 0 else -0.4 * past**2


def measured(truth: Callable[[float], float], *, noise: float, seeds: int = 3, draw: random.Random) -> Optimum | None:
    shifts = [draw.gauss(0, 10 * noise) for _ in range(seeds)]
    return optimum_of(
        {
            value: {seed: truth(math.log10(value)) + shift + draw.gauss(0, noise) for seed, shift in enumerate(shifts)}
            for value in VALUES
        }
    )


@pytest.mark.parametrize("truth", [smooth, cliff])
@pytest.mark.parametrize("noise", [0.001, 0.01])
def test_the_interval_holds_the_best_value(truth: Callable[[float], float], noise: float) -> None:
    """In 95 % of sweeps; what seeds shift together takes nothing from it."""
    draw = random.Random(1)
    found = [measured(truth, noise=noise, draw=draw) for _ in range(12)]
    assert sum(one is not None and one.low <= 2.5 <= one.high for one in found) >= 11
    if noise == 0.001:
        assert all(one is not None and one.high / one.low < 100 for one in found)


def test_flat_scores_leave_everything_open() -> None:
    """Where no value does anything there is no best one, and the interval is all that was tried."""
    found = measured(lambda log: 0.0, noise=0.01, draw=random.Random(2))
    assert found is not None and found.opens_down and found.opens_up


def test_too_little_says_nothing() -> None:
    """Two seeds, or three values."""
    assert measured(smooth, noise=0.01, seeds=2, draw=random.Random(3)) is None
    assert optimum_of({value: dict.fromkeys(range(5), 0.0) for value in (0.1, 1.0, 10.0)}) is None


def test_runs_that_diverged_and_seeds_that_are_missing_are_no_hindrance() -> None:
    """What diverged is bad, whatever number it left; a value with fewer seeds is known less well."""
    scores = {value: {seed: smooth(math.log10(value)) for seed in range(5)} for value in spaced(0.01, 100, 9)}
    scores[100.0] = {0: math.nan, 1: -math.inf, 2: -1.0}
    scores[0.01] = {}
    found = optimum_of(scores)
    assert found is not None and found.low <= 2.5 <= found.high and not found.opens_up


def test_a_sweep_that_chose_no_decay_has_none() -> None:
    """Its best value may be none at all."""
    setting = null_sweeps.Setting(rows=0, seeds=3, values=5, noise=0.01, shared=0.0)
    draw = random.Random(0)
    made = [null_sweeps.null_sweep(setting, draw) for _ in range(6)]
    assert {sweep.optimum is None for sweep in made if sweep.best is not None and sweep.best.point.is_bare} == {True}
    (decayed, *_) = [sweep for sweep in made if sweep.best is not None and not sweep.best.point.is_bare]
    assert decayed.optimum is not None and '"optimum"' in decayed.to_json()
    assert replace(decayed, interrupted=True).optimum is None
