"""A Gaussian process over the logarithms of what was tried: what the scores may be where none was measured.

The score of a candidate x with seed s is f(x) + b(s) + noise: seeds shift all candidates alike, and what is left
between seeds is the noise. f is a Gaussian process whose length scales and size are fitted, with a further noise for
what it is too smooth to follow. Scores far below the best are brought nearer by a logarithm, so that a collapse at
strong decay does not decide how the process looks around the best.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torchdecay.errors import need

Place = tuple[float, ...]
"""Coordinates of a candidate: log10 of what it consists of."""
SHORTEST, LONGEST = 0.1, 2.0
"""Length scales, as shares of the range: shorter would follow the noise, longer is a straight line."""
ROUNDS = 20


@dataclass(frozen=True)
class Surface:
    """The posterior, scikit-learn's own process, fitted. Made by `Surface.of`."""

    process: Any

    @classmethod
    def of(cls, scores: Mapping[Place, Mapping[int, float]]) -> Surface:
        """Fit it to the scores of each place by seed, more being better; those that are not finite are worst."""
        np = need("numpy", "lab")
        gaussian, kernels = (need(f"sklearn.gaussian_process{tail}", "lab") for tail in ("", ".kernels"))
        places = np.array([*scores], dtype=float)
        seeds = sorted({seed for some in scores.values() for seed in some})
        sound = [value for some in scores.values() for value in some.values() if math.isfinite(value)]
        worst = min(sound, default=0.0)
        # NaN stands for a seed that was not run.
        rows = [[some.get(seed) for seed in seeds] for some in scores.values()]
        table = np.array([[_number(value, worst) for value in row] for row in rows])
        means, variances = _without_seeds(np, _near(np, table))
        center, size = means.mean(), means.std() or 1.0
        spans = np.ptp(places, axis=0)
        spans[spans == 0] = 1.0
        kernel = kernels.ConstantKernel(1.0, (0.1, 30.0)) * kernels.RBF(
            spans / 4, [(SHORTEST * span, LONGEST * span) for span in spans]
        ) + kernels.WhiteKernel(1e-2, (1e-6, 1.0))
        noise = np.maximum(variances / size**2, 1e-8)
        with _unwarned():
            fitted = gaussian.GaussianProcessRegressor(kernel, alpha=noise).fit(places, (means - center) / size)
            smooth, rest = fitted.kernel_.k1, fitted.kernel_.k2.noise_level
            made = gaussian.GaussianProcessRegressor(smooth, alpha=noise + rest, optimizer=None)
            return cls(made.fit(places, (means - center) / size))

    def draws(self, places: Sequence[Place], count: int, seed: int) -> Any:
        """So many draws of f at some places, an array with a row per draw."""
        with _unwarned():
            return self.process.sample_y(need("numpy", "lab").array(places), count, random_state=seed).T


def _number(score: float | None, worst: float) -> float:
    return math.nan if score is None else score if math.isfinite(score) else worst


def _near(np: Any, table: Any) -> Any:
    """Scores with those far below the best brought nearer."""
    means = np.nanmean(table, axis=1)
    size = means.max() - np.median(means) or 1.0
    below = means.max() - table
    return np.where(below > 0, -size * np.log1p(np.maximum(below, 0) / size), -below)


def _without_seeds(np: Any, table: Any) -> tuple[Any, Any]:
    """Means of the rows as if all had the same seeds, and the variances of these means."""
    there = ~np.isnan(table)
    rows, columns = np.zeros(len(table)), np.zeros(table.shape[1])
    for _ in range(ROUNDS):
        rows = np.nanmean(table - columns, axis=1)
        columns = np.nanmean(table - rows[:, None], axis=0)
        columns -= columns.mean()
    rest = np.where(there, table - rows[:, None] - columns, 0.0)
    free = there.sum() - len(rows) - len(columns) + 1
    return rows, (rest**2).sum() / max(1, free) / there.sum(axis=1)


@contextmanager
def _unwarned() -> Iterator[None]:
    """A length scale at its bound is as good as another."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
