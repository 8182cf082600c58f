"""`Direction`: which way each group's coefficient should move, as a value that can say so."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torchdecay.lab.comparisons.statistics import interval, mean
from torchdecay.lab.directions.hypergradient import Hypergradient
from torchdecay.printing import words_of
from torchdecay.tables import Shown

NEGLIGIBLE = 1e-3
"""Where doubling a coefficient changes the validation loss by less than this share, nothing is claimed."""
AT_REST = 0.1
"""The largest unrest at which implicit slopes are taken at their word."""


@dataclass(frozen=True, kw_only=True)
class SeedSlopes:
    """What one seed gave.

    Attributes:
        slopes: (group, dV/d ln λ) pairs.
        loss: the validation loss.
        solution: the hypergradient behind the slopes; None for differences.
    """

    slopes: tuple[tuple[str, float], ...]
    loss: float
    solution: Hypergradient | None = None

    @classmethod
    def of(cls, found: Hypergradient) -> SeedSlopes:
        """From a hypergradient."""
        return cls(slopes=tuple((one.group, one.slope) for one in found.slopes), loss=found.loss, solution=found)


@dataclass(frozen=True, kw_only=True)
class GroupDirection:
    """Which way one group's coefficient should move, over seeds.

    Attributes:
        group: its name.
        slopes: d ln V/d ln λ, by seed: by how many percent the loss grows as the coefficient grows by one.
        mean: their mean.
        low, high: the 95 % t interval of the mean; None with a single seed.
        move: "stronger", "weaker", or "" where neither can be claimed.
    """

    group: str
    slopes: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None
    move: str


@dataclass(frozen=True, kw_only=True)
class Direction(Shown):
    """Which way each group's coefficient should move. Made by `torchdecay.lab.direction`.

    Attributes:
        task: the task's name.
        decay: the decay that was trained with, as it prints.
        method: "implicit" or "differences".
        seeds: the seeds.
        by_seed: what each of them gave.
        damping: what was added to the Hessian's diagonal.
    """

    task: str
    decay: str
    method: str
    seeds: tuple[int, ...]
    by_seed: tuple[SeedSlopes, ...]
    damping: float = 0.0

    @property
    def why_not(self) -> str:
        """Why nothing can be claimed: an implicit slope was not found, or not where it means something; else ""."""
        found = [one.solution for one in self.by_seed if one.solution is not None]
        if not found:
            return ""
        curvature = min(one.curvature for one in found)
        if curvature + self.damping <= 0:
            return (
                f"the training loss with its decay curves down somewhere (curvature {curvature:.2g}), so training did "
                f"not end in a minimum; set damping above {-curvature:.2g}"
            )
        if not all(one.converged for one in found):
            return f"the linear system has residual {max(one.residual for one in found):.1g}; allow more iterations"
        unrest = max(one.unrest for one in found)
        if unrest > AT_REST:
            return f"training has not come to rest (what is left of the gradient is {unrest:.0%} of the decay's pull)"
        return ""

    @property
    def groups(self) -> tuple[GroupDirection, ...]:
        """One per group, in order."""
        return tuple(self._group(index) for index in range(len(self.by_seed[0].slopes)))

    def _group(self, index: int) -> GroupDirection:
        # Relative to the loss, because seeds whose data is harder have the larger slopes.
        slopes = tuple(one.slopes[index][1] / (abs(one.loss) or 1.0) for one in self.by_seed)
        low, high = interval(slopes)
        average = mean(slopes)
        # With a single seed there is no interval; what is claimed then holds for its rows.
        certain = low is None or high is None or low > 0 or high < 0
        large = abs(average) * math.log(2) > NEGLIGIBLE
        move = ("stronger" if average < 0 else "weaker") if certain and large and not self.why_not else ""
        return GroupDirection(
            group=self.by_seed[0].slopes[index][0], slopes=slopes, mean=average, low=low, high=high, move=move
        )

    def __str__(self) -> str:
        return words_of(self)
