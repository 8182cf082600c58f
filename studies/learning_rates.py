"""The learning rate is made four times larger: which form of decay keeps its best coefficient?

Digits with 36 % of the training labels wrong, the task's MLP, batches of 128, 1,000 steps; AdamW at learning rate
0.001 and 0.004, which falls to 0 along a cosine. lab.sweep tries decoupled decay from 1 to 32 in steps of 2 at both.
independent(c) with peak learning rate m is decoupled(c/m), and is lowered to that number, so the same runs tell of
both: its coefficient is the peak times decoupled's. A seed's best coefficient is the top of the parabola through its
best value and that one's neighbors, over the logarithm of the coefficient. The number of a claim is the power of 4 by
which it moved: 0 is where it was, −1 a quarter of it, 1 four times it.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial

from torch.optim.lr_scheduler import CosineAnnealingLR

from study import Claim, Found, Row, main
from torchdecay import lab

VALUES = [2.0**k for k in range(6)]
SCALES = (1.0, 4.0)


def measure(quick: bool) -> Found:
    steps = 20 if quick else 1000
    task = dataclasses.replace(
        lab.task_named("digits"), num_steps=steps, eval_every=steps, scheduler=partial(CosineAnnealingLR, T_max=steps)
    )
    found = lab.sweep(task, "decoupled", search=lab.Search(values=VALUES, lr_scales=SCALES), seeds=3, engine="serial")
    best = {scale: [best_value(curve(found, scale, seed)) for seed in found.seeds] for scale in SCALES}
    moved = {"decoupled": [math.log(after / before, 4) for before, after in zip(best[1.0], best[4.0], strict=True)]}
    moved["independent"] = [1 + power for power in moved["decoupled"]]
    return Found(
        seeds=found.seeds,
        rows=[
            Row(
                setting=f"learning rate {1e-3 * scale:g}",
                measured={
                    "best decoupled coefficient": best[scale],
                    "best independent coefficient": [1e-3 * scale * one for one in best[scale]],
                    "validation accuracy there": [max(curve(found, scale, seed).values()) for seed in found.seeds],
                },
            )
            for scale in SCALES
        ],
        claims=[
            Claim(
                said=f"The best coefficient of {form} decay stays where it is, to a factor of 2.",
                source="arXiv 2309.14322" if form == "independent" else "",
                number="power of 4 by which it moved",
                values=values,
                above=-0.5,
                below=0.5,
            )
            for form, values in moved.items()
        ],
    )


def curve(found: lab.Sweep, scale: float, seed: int) -> dict[float, float]:
    """Validation accuracy by coefficient, at one learning rate and of one seed."""
    return {
        point.value: run.final(found.measure)
        for point in found.points
        if point.value and point.lr_scale == scale
        for run in found.of(point.label)
        if run.seed == seed
    }


def best_value(scores: dict[float, float]) -> float:
    values = sorted(scores)
    place = max(range(len(values)), key=lambda index: scores[values[index]])
    if place in (0, len(values) - 1):
        return values[place]
    left, middle, right = (scores[value] for value in values[place - 1 : place + 2])
    bend = left - 2 * middle + right
    return values[place] * 2 ** (0.5 * (left - right) / bend if bend else 0.0)


if __name__ == "__main__":
    main(measure)
