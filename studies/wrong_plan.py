"""What does it change to mend what td.audit finds?

Digits with 36 % of the training labels wrong; an MLP 64-256-256-10, with layer norms and without, batches of 128,
learning rate 0.001, 1,000 steps. Three optimizers as people reported them in public, each meant to decay the matrices
by 10: groups with another library's key, so that AdamW takes its default; Adam in place of AdamW; everything decayed,
norms and biases too. Each is audited before its first step, and trained as it is, beside the mended one:
AdamW(td.param_groups(model, 10)).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import nn, optim

import torchdecay as td
from study import Claim, Found, Row, main
from torchdecay import lab
from torchdecay.lab.tasks.task import evaluate
from torchdecay.lab.training.train import batches_of

SEEDS = (0, 1, 2)
Make = Callable[[nn.Module], optim.Optimizer]


def foreign_key(model: nn.Module) -> optim.Optimizer:
    matrices = [param for param in model.parameters() if param.ndim > 1]
    others = [param for param in model.parameters() if param.ndim == 1]
    return optim.AdamW(
        [{"params": matrices, "weight_decay_rate": 10.0}, {"params": others, "weight_decay_rate": 0.0}], lr=1e-3
    )


def adam_for_adamw(model: nn.Module) -> optim.Optimizer:
    return optim.Adam(td.param_groups(model, td.native(10.0)), lr=1e-3)


def everything(model: nn.Module) -> optim.Optimizer:
    return optim.AdamW(model.parameters(), lr=1e-3, weight_decay=10.0)


def mended(model: nn.Module) -> optim.Optimizer:
    return optim.AdamW(td.param_groups(model, 10.0), lr=1e-3)


WRONG = {"another key": foreign_key, "Adam for AdamW": adam_for_adamw, "everything decays": everything}


NETWORKS = {"layer norms": True, "no norms": False}


def network(norms: bool) -> nn.Sequential:
    blocks = [(nn.Linear(*widths), *[nn.LayerNorm(256)] * norms, nn.ReLU()) for widths in ((64, 256), (256, 256))]
    return nn.Sequential(*itertools.chain(*blocks), nn.Linear(256, 10))


def trained(make: Make, norms: bool, seed: int, num_steps: int) -> tuple[str, float]:
    """What audit finds before the first step, and the test accuracy at the end."""
    task = lab.task_named("digits")
    torch.manual_seed(seed)
    model, data = network(norms), task.data(seed)
    optimizer = make(model)
    run = td.Run(steps=num_steps, batch_size=128, num_samples=len(data.train[0]))
    findings = {one.code for one in td.audit(optimizer, model=model, run=run) if one.severity != "note"}
    batches = batches_of(data.train, 128, torch.Generator().manual_seed(seed))
    for _ in range(num_steps):
        x, y = next(batches)
        optimizer.zero_grad()
        task.loss(model(x), y).backward()
        optimizer.step()
    return ", ".join(sorted(findings)) or "nothing", evaluate(task, model, data.test)[1]


def measure(quick: bool) -> Found:
    num_steps = 20 if quick else 1000
    rows, claims = [], []
    for where, norms in NETWORKS.items():
        found = {
            name: [trained(make, norms, seed, num_steps) for seed in SEEDS]
            for name, make in {"mended": mended, **WRONG}.items()
        }
        accuracy = {name: [score for _, score in ones] for name, ones in found.items()}
        for name, ones in found.items():
            rows.append(
                Row(setting=f"{where}, {name}; audit: {ones[0][0]}", measured={"test accuracy": accuracy[name]})
            )
        for name in WRONG:
            claims.append(
                Claim(
                    said=f"{where}, {name}: mending it makes more of the test digits right.",
                    number=f"test accuracy, mended less {name}; found: {found[name][0][0]}",
                    values=[a - b for a, b in zip(accuracy["mended"], accuracy[name], strict=True)],
                    grain=1 / 797,
                    above=0.0,
                )
            )
    return Found(seeds=SEEDS, rows=rows, claims=claims)


if __name__ == "__main__":
    main(measure)
