"""Does weight decay arrive in bfloat16 weights, with torch's own AdamW and with the remedy of td.attach?

Digits with wrong labels, the task's MLP with all weights in bfloat16; AdamW at learning rate 0.001, 1,000 steps,
decay of 1.5. A step is to take 0.0015 of a weight, less than half of what bfloat16 can tell apart: rounding to
nearest gives the weight back. native is what torch does; decoupled is carried out by td.attach, which keeps what is
owed until it can be paid. decoupled in float32 stands beside it. td.forecast says what decay is to take of a weight
without gradient over the run, and td.Monitor what it took.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import torch
from torch import Tensor, nn

from study import Claim, Found, Row, less, main
from torchdecay import lab

DECAYS = ("none", "native:1.5", "decoupled:1.5")


class Low(nn.Module):
    """A network with weights of another dtype; inputs and outputs are float32."""

    def __init__(self, make: partial[nn.Module], dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.dtype = make().to(dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.to(self.dtype)).float()


def measure(quick: bool) -> Found:
    task = dataclasses.replace(lab.task_named("digits"), num_steps=20 if quick else 1000, eval_every=500)
    found = {
        name: lab.compare(dataclasses.replace(task, model=partial(Low, task.model, dtype)), decays, seeds=3)
        for name, dtype, decays in (("bfloat16", torch.bfloat16, DECAYS), ("float32", torch.float32, DECAYS[::2]))
    }
    norm = {(name, label): one.final(label, "weight_norm") for name, one in found.items() for label in one.labels}

    def over(label: str, other: str, dtype: str = "bfloat16") -> list[float]:
        return [a / b for a, b in zip(norm["bfloat16", label], norm[dtype, other], strict=True)]

    measures = {"weight norm": "weight_norm", "test accuracy": "test_score"}
    return Found(
        seeds=(0, 1, 2),
        rows=[
            Row(
                setting=f"{name}, {label}",
                measured={said: one.final(label, curve) for said, curve in measures.items()},
            )
            for name, one in found.items()
            for label in one.labels
        ],
        claims=[
            Claim(
                said="In bfloat16 torch's AdamW does not decay at this strength: weights end as large as without.",
                number="weight norm, native:1.5 over none, both bfloat16",
                values=over("native:1.5", "none"),
                above=0.98,
                below=1.02,
            ),
            Claim(
                said="With the remedy weights end as small as in float32, to 3 %.",
                number="weight norm, decoupled:1.5 in bfloat16 over float32",
                values=over("decoupled:1.5", "decoupled:1.5", "float32"),
                above=0.97,
                below=1.03,
            ),
            Claim(
                said="With the remedy decay takes what was planned, to 2 %.",
                number="accumulated log-shrink, measured over planned, decoupled:1.5 in bfloat16",
                values=[
                    group.realized[-1] / group.planned[-1]
                    for run in found["bfloat16"].of("decoupled:1.5")
                    for group in run.planned_and_measured.groups
                ],
                above=0.98,
                below=1.02,
            ),
            Claim(
                said="With the remedy more of the test digits are right than with torch's own.",
                number="test accuracy, decoupled:1.5 less native:1.5, both bfloat16",
                above=0.0,
                **less(found["bfloat16"], "decoupled:1.5", "native:1.5", "test_score"),
            ),
        ],
    )


if __name__ == "__main__":
    main(measure)
