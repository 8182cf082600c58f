"""A vision transformer with learning rates by layer: what has at most one dimension is spared.

Layer-scale is of shape (C, 1, 1) here, so it decays. The model names its class token and its position table in
`no_weight_decay()`, and nobody asks it. And each group has an lr_scale, but there is no scheduler that applies it.

Found: WD101, WD204
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import torchdecay as td


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(1, width)
        self.gamma = nn.Parameter(1e-5 * torch.ones(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.conv(self.norm(x))


class Vision(nn.Module):
    def __init__(self, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.head = nn.Linear(width, 10)

    def no_weight_decay(self) -> set[str]:
        return {"pos_embed", "cls_token"}

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images)
        for block in self.blocks:
            x = block(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1) + self.pos_embed
        return self.head(tokens[:, 0])


def depth_of(name: str) -> int:
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return 4 if name.startswith("head") else 0


def setup() -> tuple[torch.optim.Optimizer, nn.Module]:
    model = Vision()
    groups: dict[tuple[int, bool], dict[str, object]] = {}
    for name, param in model.named_parameters():
        spared = param.dim() <= 1 or name.endswith(".bias")
        scale = 0.75 ** (4 - depth_of(name))
        new = {"params": [], "weight_decay": 0.0 if spared else 0.05, "lr_scale": scale}
        groups.setdefault((depth_of(name), spared), new)["params"].append(param)
    return torch.optim.AdamW(list(groups.values()), lr=1e-3), model


def fixed() -> tuple[torch.optim.Optimizer, nn.Module]:
    model = Vision()
    rules = [
        td.rule(td.role("weight") & td.names(*_weights_at(model, depth)), td.DEFAULT, lr=1e-3 * 0.75 ** (4 - depth))
        for depth in range(4)
    ]
    return torch.optim.AdamW(td.plan(model, 0.05, rules=[*rules, *td.STANDARD]).param_groups(model), lr=1e-3), model


def _weights_at(model: nn.Module, depth: int) -> list[str]:
    return [n for n, p in model.named_parameters() if p.dim() > 1 and n.endswith("weight") and depth_of(n) == depth]
