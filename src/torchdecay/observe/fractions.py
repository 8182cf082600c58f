"""The arithmetic of one number: the fraction f = c·λ of each weight that a step removes."""

from __future__ import annotations

import math


def log_retention(fraction: float) -> float:
    r"""ln|1 − f|: what one step adds to the logarithm of a weight without gradient; −∞ at f = 1.

    Sums of it over steps are exact where products of 1 − f would lose digits. Above 1 a step flips the sign, and this
    is about the size only.

    Args:
        fraction: f = c·λ per step; below 0 weights grow.

    Example:
        >>> log_retention(0.0), log_retention(1e-20)
        (0.0, -1e-20)
    """
    if fraction == 1.0:
        return -math.inf
    # + 0.0 turns the −0 of no decay into 0.
    return (math.log1p(-fraction) if fraction < 1.0 else math.log(fraction - 1.0)) + 0.0


def half_life(fraction: float) -> float:
    r"""Steps until a weight without gradient is half of itself: ln 2 / −ln(1 − f); ∞ where it never is.

    It is ln 2 ≈ 0.693 times the `timescale` where f is small, and less where f is large.

    Args:
        fraction: f = c·λ per step.

    Example:
        >>> half_life(0.5), round(half_life(1e-4), 1)
        (1.0, 6931.1)
    """
    slope = log_retention(fraction)
    return math.log(2.0) / -slope if slope < 0.0 else math.inf


def timescale(fraction: float) -> float:
    r"""τ = 1/f: over how many steps the weights average their updates; ∞ without decay.

    Weights under decoupled decay are an exponential average of updates, in which τ steps ago counts 1/e.

    Args:
        fraction: f = c·λ per step.

    Example:
        >>> timescale(1e-4)
        10000.0

    Reference: How to set AdamW's weight decay as you scale model and dataset size, arXiv 2405.13698.
    """
    return 1.0 / fraction if fraction > 0.0 else math.inf


def fraction_of_half_life(steps: float) -> float:
    """The fraction per step whose half-life is `steps`: 1 − 2^(−1/steps); the inverse of `half_life`.

    Args:
        steps: above 0; ∞ gives 0.

    Example:
        >>> fraction_of_half_life(1.0)
        0.5
    """
    return -math.expm1(-math.log(2.0) / steps)


def fraction_of_log_retention(slope: float) -> float:
    """The fraction per step that adds `slope` to the logarithm of a weight: 1 − e^slope; inverse of `log_retention`.

    Args:
        slope: at most 0; −∞ gives 1.

    Example:
        >>> fraction_of_log_retention(0.0)
        0.0
    """
    return -math.expm1(slope) + 0.0
