"""Conjugate gradients: a symmetric system solved by products with its matrix alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Solved:
    """What conjugate gradients found: x, or the last one before the matrix turned out not to be positive.

    `residual` is ‖Ax − b‖/‖b‖, computed anew at the end; `iterations` counts products with A until then. `curvature`
    is the smallest dᵀAd/dᵀd over the directions d that were tried; at most 0 ends the search.
    """

    x: Tensor
    residual: float
    iterations: int
    converged: bool
    curvature: float


def solve(product: Callable[[Tensor], Tensor], b: Tensor, *, tolerance: float, max_iterations: int) -> Solved:
    """The x with Ax = b for a symmetric positive A that is given as v → Av; b has one dimension."""
    x, residual = torch.zeros_like(b), b.clone()
    direction = residual.clone()
    size, wanted = float(residual @ residual), tolerance * float(b.norm())
    curvature, iterations = float("inf"), 0
    while iterations < max_iterations and size**0.5 > wanted:
        pushed = product(direction)
        iterations += 1
        bend = float(direction @ pushed)
        curvature = min(curvature, bend / float(direction @ direction))
        if not bend > 0:
            break
        step = size / bend
        x += step * direction
        residual -= step * pushed
        before, size = size, float(residual @ residual)
        direction = residual + size / before * direction
    # What the recurrence carries along drifts away from the truth.
    length = float(b.norm())
    left = float((product(x) - b).norm()) / length if length else 0.0
    return Solved(
        x=x,
        residual=left,
        iterations=iterations,
        converged=curvature > 0 and left <= 10 * tolerance,
        curvature=curvature,
    )
