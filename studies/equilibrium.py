"""Do weights that a norm follows come to rest where the closed forms say, in a real training?

Digits with 36 % of the training labels wrong; Linear(64, 256) and Linear(256, 256) without bias, each followed by a
batch norm, and a linear layer; batches of 128, constant learning rates, 1,500 steps; the first two matrices only have
a direction. The forms are derived for gradients that are noise; these are of a loss. AdamW lr 0.002, decay 2.5; SGD
lr 0.05, momentum 0.9, decay 0.01; Muon lr 0.02, decay 0.5. td.Monitor measures each fifth step's rotation of the
second matrix over the last 500 steps, and td.forecast says what is expected.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from statistics import fmean

import torch
from torch import nn, optim

import torchdecay as td
from study import Claim, Found, Row, main
from torchdecay import lab
from torchdecay.lab.training.train import batches_of

SEEDS, NAME = tuple(range(6)), "3.weight"
Make = Callable[[Iterable[nn.Parameter]], optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "AdamW": functools.partial(optim.AdamW, lr=2e-3, weight_decay=2.5),
    "SGD": functools.partial(optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01),
    "Muon": functools.partial(optim.Muon, lr=0.02, weight_decay=0.5),
}
NEAR = {
    "AdamW": {"rotation": (0.9, 1.1), "norm": (0.9, 1.1)},
    "SGD": {"rotation": (0.9, 1.1), "norm": (0.9, 1.1)},
    "Muon": {"rotation": (1.0, 1.3), "norm": (0.65, 0.85)},
}
"""Where a measured number over the closed form's has to lie: within 10 %, and for Muon what the docs say."""


def network() -> nn.Sequential:
    blocks = [(nn.Linear(*widths, bias=False), nn.BatchNorm1d(256), nn.ReLU()) for widths in ((64, 256), (256, 256))]
    return nn.Sequential(*itertools.chain(*blocks), nn.Linear(256, 10))


def turned(make: Make, seed: int, num_steps: int) -> dict[str, float]:
    """Rotation and norm of the second matrix, each over what is expected."""
    torch.manual_seed(seed)
    model, data = network(), lab.task_named("digits").data(seed)
    matrices = [param for name, param in model.named_parameters() if name in ("0.weight", NAME)]
    others = [param for param in model.parameters() if all(param is not one for one in matrices)]
    optimizer, rest = make(matrices), optim.AdamW(others, lr=2e-3, weight_decay=0.0)
    (said,) = td.forecast(optimizer, model=model, run=td.Run(steps=num_steps)).groups
    batches = batches_of(data.train, 128, torch.Generator().manual_seed(seed))
    sizes = []
    with td.Monitor(optimizer, model=model, every_steps=5, by="tensor") as monitor:
        for _ in range(num_steps):
            x, y = next(batches)
            model.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            weight = matrices[1]
            sizes.append(float(weight.grad.norm() * weight.detach().norm()))
            optimizer.step()
            rest.step()
    steps, angles = monitor.history.curve(NAME, "rotation")
    late = [angle for step, angle in zip(steps, angles, strict=True) if step > num_steps * 2 / 3]
    norms = monitor.history.curve(NAME, "weight_norm")[1]
    gradient = fmean(size**2 for size in sizes[num_steps * 2 // 3 :]) ** 0.5
    expected = said.norm(NAME, gradient_norm=gradient, shape=(256, 256))
    return {
        "rotation": fmean(angle**2 for angle in late) ** 0.5 / said.equilibrium.rotation,
        "norm": fmean(norms[-len(late) :]) / expected,
    }


def measure(quick: bool) -> Found:
    found = {name: [turned(make, seed, 60 if quick else 1500) for seed in SEEDS] for name, make in OPTIMIZERS.items()}
    return Found(
        seeds=SEEDS,
        rows=[
            Row(
                setting=name,
                measured={
                    f"{what}, measured over expected": [one[what] for one in ones] for what in ("rotation", "norm")
                },
            )
            for name, ones in found.items()
        ],
        claims=[
            Claim(
                said=f"Under {name} the matrix's {what} is that of the closed form, as far as the docs say.",
                source="arXiv 2305.17212" if name != "Muon" else "",
                number=f"{what}, measured over expected",
                values=[one[what] for one in ones],
                above=NEAR[name][what][0],
                below=NEAR[name][what][1],
            )
            for name, ones in found.items()
            for what in ("rotation", "norm")
        ],
    )


if __name__ == "__main__":
    main(measure)
