"""Does decay of 0.1 mend a network that learns noise by heart, and do three ways to write it agree?

The experiment of the tutorials: 1,000 rows of 1,000 standard normal numbers, half of them called 0 and half 1, a
third kept for testing; Linear(1000, 500), sigmoid, Linear(500, 1), sigmoid; SGD at learning rate 0.1, all rows at
once, 1,000 epochs, on every parameter decay of 0.1 or none. The labels are noise: no network can be expected below ln
2 = 0.693 on new rows. For 50 epochs the decay is also written in two other ways: added to the gradient by hand, and
as a penalty of 0.05·Σw² in the loss.
"""

from __future__ import annotations

import dataclasses
import math

from study import Claim, Found, less, main, rows_of
from torchdecay import lab

WAYS = ("native:0.1", "by_hand:0.1", "penalized:0.1")


def measure(quick: bool) -> Found:
    task = lab.task_named("overfit")
    short = dataclasses.replace(task, num_steps=10 if quick else 50, eval_every=10)
    ways = lab.compare(short, WAYS, seeds=3)
    apart = [
        max(
            abs(a - b)
            for curve in ("train_loss", "test_loss")
            for one in runs[1:]
            for a, b in zip(getattr(runs[0], curve), getattr(one, curve), strict=True)
        )
        for runs in zip(*(ways.of(way) for way in WAYS), strict=True)
    ]
    whole = dataclasses.replace(task, num_steps=20 if quick else 1000, eval_every=100)
    found = lab.compare(whole, ["none", "native:0.1"], seeds=3)
    return Found(
        seeds=found.seeds,
        rows=rows_of(found, train_loss="train_loss", test_loss="test_loss", weight_norm="weight_norm"),
        claims=[
            Claim(
                said="Decay lowers the test loss.",
                source="the tutorials",
                number="test loss, native:0.1 less none",
                below=0.0,
                **less(found, "native:0.1", "none", "test_loss"),
            ),
            Claim(
                said="With decay the network does better than always answering one half.",
                number="test loss, native:0.1",
                below=math.log(2),
                values=found.final("native:0.1", "test_loss"),
            ),
            Claim(
                said="By hand, built in and as a penalty the losses agree in three digits.",
                source="the tutorials",
                number="largest difference of any loss, 50 epochs",
                below=5e-4,
                values=apart,
            ),
        ],
    )


if __name__ == "__main__":
    main(measure)
