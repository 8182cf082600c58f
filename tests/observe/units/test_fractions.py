"""The arithmetic of one fraction: exact where it is tiny, and defined at its ends."""

from __future__ import annotations

import math

import pytest

from torchdecay.observe.fractions import (
    fraction_of_half_life,
    fraction_of_log_retention,
    half_life,
    log_retention,
    timescale,
)


@pytest.mark.parametrize("fraction", [1e-18, 1e-9, 1e-4, 0.1, 0.5, 0.999])
def test_the_inverses_give_the_fraction_back(fraction: float) -> None:
    """To rounding, also where 1 − f rounds to 1. Near 1 the condition of the logarithm costs a few more bits."""
    assert fraction_of_half_life(half_life(fraction)) == pytest.approx(fraction, rel=1e-14)
    assert fraction_of_log_retention(log_retention(fraction)) == pytest.approx(fraction, rel=1e-14)
    assert 1 / timescale(fraction) == pytest.approx(fraction, rel=1e-15)


def test_a_half_life_halves_a_weight() -> None:
    """By multiplying, not by the formula."""
    weight = 1.0
    for _ in range(69):
        weight *= 1 - 0.01
    assert half_life(0.01) == pytest.approx(68.97, abs=0.01) and weight == pytest.approx(0.5, abs=2e-3)


def test_tiny_fractions_keep_their_digits() -> None:
    """The naive log(1 − f) is 0 here, and would tell a half-life without end."""
    assert math.log(1 - 1e-17) == 0.0
    assert half_life(1e-17) == pytest.approx(math.log(2) * 1e17, rel=1e-15)


def test_the_ends() -> None:
    """No decay never halves, all of it at once halves at once, a flip by 3/2 halves as 1/2 does, growth never."""
    assert half_life(0.0) == math.inf and timescale(0.0) == math.inf and fraction_of_half_life(math.inf) == 0.0
    assert half_life(1.0) == 0.0 and log_retention(1.0) == -math.inf and fraction_of_log_retention(-math.inf) == 1.0
    assert half_life(1.5) == half_life(0.5) == 1.0
    assert half_life(2.0) == half_life(3.0) == half_life(-0.1) == math.inf
