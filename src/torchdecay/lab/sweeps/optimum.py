"""Where the best value lies, not only how good it is: an interval of coefficients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchdecay.errors import need
from torchdecay.lab.comparisons.statistics import FEWEST_SEEDS, LEVEL
from torchdecay.lab.sweeps.surface import Surface

FEWEST_VALUES, MOST_VALUES = 4, 100
"""Of more values some are left out, evenly: the fit takes their cube, and seeds don't tell so many apart."""
DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """Where the coefficient with the best expected score lies, if the score has one hump over log λ.

    A Gaussian process is fitted to the scores of the whole runs. In each of many draws from its posterior the best of
    the values that were tried has two neighbors, and one hump has its top between them; the interval reaches from the
    lower of these ends at 2.5 % to the upper at 97.5 %. So it is never narrower than the values are apart. It opens
    where its end is the weakest or strongest value that was tried, beyond which nothing is known.
    """

    low: float
    high: float
    opens_down: bool
    opens_up: bool
    num_values: int
    num_seeds: int


def optimum_of(scores: Mapping[float, Mapping[int, float]]) -> Optimum | None:
    """The interval for the best value, of scores by seed (more is better); None below four values or three seeds."""
    found = brackets(scores)
    if found is None:
        return None
    np, (lower, upper) = need("numpy", "lab"), found
    low = float(np.quantile(lower, (1 - LEVEL) / 2, method="lower"))
    high = float(np.quantile(upper, (1 + LEVEL) / 2, method="higher"))
    return Optimum(
        low=low,
        high=high,
        opens_down=low == min(scores),
        opens_up=high == max(scores),
        num_values=len(scores),
        num_seeds=max(map(len, scores.values())),
    )


def brackets(scores: Mapping[float, Mapping[int, float]]) -> tuple[Any, Any] | None:
    """In each draw the values on both sides of the best one, as two arrays; None where there are too few."""
    values = sorted(value for value, some in scores.items() if some)
    if len(values) < FEWEST_VALUES or max(len(scores[value]) for value in values) < FEWEST_SEEDS:
        return None
    values = sorted({*values[:: -(-len(values) // MOST_VALUES)], values[-1]})
    np = need("numpy", "lab")
    places = [(math.log10(value),) for value in values]
    surface = Surface.of({place: scores[value] for place, value in zip(places, values, strict=True)})
    best = surface.draws(places, DRAWS, seed=0).argmax(axis=1)
    padded = np.array([values[0], *values, values[-1]])
    return padded[best], padded[best + 2]
