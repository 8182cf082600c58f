"""A small language model: do cautious, corrected and hyperball do what their papers say?

A GPT of 1 M weights (4 layers of width 144, 4 heads, 64 characters at a time, layer norms in front) on the text of
Python's own help, pydoc_data.topics, of which the last tenth is for validation; 300 steps of 8 pieces, AdamW at
learning rate 0.003 with warm-up over 20 steps and a cosine to 0, betas 0.9 and 0.95. The coefficient is what
td.suggest says for that run, for all forms. corrected pulls all matrices but that of the output, which has decoupled
decay, as in its paper. hyperball takes the same matrices; the peak of its learning rate is the angle by which AdamW
with that decay turns at rest, as td.forecast says. The loss is in nats a character, on 128 pieces.
"""

from __future__ import annotations

import functools
import math
import pydoc_data.topics
from collections.abc import Callable
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

import torchdecay as td
from study import Claim, Found, Row, main

LAYERS, WIDTH, HEADS, LENGTH = 4, 144, 4, 64
STEPS, WARMUP, BATCH, LR, SEEDS = 300, 20, 8, 3e-3, (0, 1, 2)


class Block(nn.Module):
    """Attention and an MLP, each behind a norm and beside a residual path."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3 * HEADS, -1)).transpose(1, 2).chunk(3, dim=1)
        attended = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Gpt(nn.Module):
    """Characters to the logits of the next one."""

    def __init__(self, num_characters: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(num_characters, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, num_characters, bias=False)

    def forward(self, text: Tensor) -> Tensor:
        x = self.tokens(text) + self.positions.weight[: text.shape[1]]
        return self.head(self.norm(self.blocks(x)))


@functools.cache
def text() -> tuple[Tensor, int]:
    """The text as numbers, and how many characters there are."""
    whole = "\n".join(pydoc_data.topics.topics.values())
    characters = {character: index for index, character in enumerate(sorted(set(whole)))}
    return torch.tensor([characters[one] for one in whole]), len(characters)


def pieces(rows: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    starts = torch.randint(len(rows) - LENGTH - 1, (count, 1), generator=generator)
    picked = rows[starts + torch.arange(LENGTH + 1)]
    return picked[:, :-1], picked[:, 1:]


def course(step: int, num_steps: int) -> float:
    return min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / num_steps))


def trained(make: Callable[[nn.Module], td.Plan], seed: int, num_steps: int) -> dict[str, float]:
    """Validation loss at the end, and by how much gradients of the decayed matrices grew over the last third."""
    rows, count = text()
    cut = len(rows) * 9 // 10
    torch.manual_seed(seed)
    model, generator = Gpt(count), torch.Generator().manual_seed(seed)
    plan = make(model)
    optimizer = AdamW(plan.param_groups(model), lr=LR, betas=(0.9, 0.95))
    scheduler = LambdaLR(optimizer, functools.partial(course, num_steps=num_steps))
    norms = []
    with td.attach(optimizer, plan, model=model, scheduler=scheduler):
        matrices = [param for _, param in model.blocks.named_parameters() if param.ndim == 2]
        for _ in range(num_steps):
            x, y = pieces(rows[:cut], BATCH, generator)
            optimizer.zero_grad()
            cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
            norms.append(float(torch.stack(torch._foreach_norm([one.grad for one in matrices])).norm()))
            optimizer.step()
            scheduler.step()
    x, y = pieces(rows[cut:], 128, torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = float(cross_entropy(model(x).flatten(0, 1), y.flatten()))
    tenth = num_steps // 10
    weight = float(torch.stack(torch._foreach_norm([one.detach() for one in matrices])).norm())
    return {
        "validation loss": loss,
        "gradient, end over middle": fmean(norms[-tenth:]) / fmean(norms[5 * tenth : 6 * tenth]),
        "weight norm": weight,
    }


def plans(num_steps: int) -> dict[str, Callable[[nn.Module], td.Plan]]:
    rows, count = text()
    model = Gpt(count)
    run = td.Run(steps=num_steps, batch_size=BATCH, num_samples=len(rows) // LENGTH, tokens_per_sample=LENGTH, lr=LR)
    wd = float(f"{td.suggest(model, run=run).decay.coefficient:.2g}")
    optimizer = AdamW(td.param_groups(model, wd), lr=LR, betas=(0.9, 0.95))
    decayed = next(group for group in td.forecast(optimizer, run=run, model=model).groups if group.equilibrium)
    angle = float(f"{decayed.equilibrium.rotation:.2g}")
    return {
        "none": lambda model: td.plan(model, None),
        f"decoupled({wd:g})": lambda model: td.plan(model, td.decoupled(wd)),
        f"cautious({wd:g})": lambda model: td.plan(model, td.cautious(wd)),
        f"corrected({wd:g})": lambda model: td.plan(
            model, td.corrected(wd, max_lr=LR), rules=[("head.weight", td.decoupled(wd)), *td.STANDARD]
        ),
        f"hyperball, lr {angle:g}": lambda model: td.plan(
            model,
            td.forms.hyperball(),
            rules=[
                ("head.weight", td.decoupled(wd)),
                td.rule(td.ndim(2) & td.role("weight"), td.DEFAULT, lr=angle),
                *td.STANDARD,
            ],
        ),
    }


def measure(quick: bool) -> Found:
    num_steps = 30 if quick else STEPS
    found = {
        name: [trained(make, seed, num_steps) for seed in SEEDS[: 2 if quick else 3]]
        for name, make in plans(num_steps).items()
    }
    decoupled, cautious, corrected, hyperball = list(found)[1:]

    def less(name: str, other: str, what: str) -> list[float]:
        return [a[what] - b[what] for a, b in zip(found[name], found[other], strict=True)]

    def claim(said: str, source: str, name: str, other: str, what: str = "validation loss") -> Claim:
        return Claim(
            said=said, source=source, number=f"{what}, {name} less {other}", values=less(name, other, what), below=0.0
        )

    return Found(
        seeds=SEEDS,
        rows=[
            Row(setting=name, measured={what: [one[what] for one in ones] for what in ones[0]})
            for name, ones in found.items()
        ],
        claims=[
            claim("Decoupled decay, as strong as td.suggest says, lowers the loss.", "", decoupled, "none"),
            claim(
                "Cautious decay ends lower than decoupled of the same number.", "arXiv 2510.12402", cautious, decoupled
            ),
            claim(
                "Gradients grow less toward the end with corrected decay than with decoupled.",
                "arXiv 2506.02285",
                corrected,
                decoupled,
                "gradient, end over middle",
            ),
            claim("Corrected decay ends lower than decoupled.", "arXiv 2506.02285", corrected, decoupled),
            claim("Hyperball ends lower than AdamW with decoupled decay.", "arXiv 2606.16899", hyperball, decoupled),
        ],
    )


if __name__ == "__main__":
    main(measure)
