"""Muon for what has two dimensions, AdamW for what has one: two optimizers that have to be audited together.

An embedding has two dimensions, so Muon orthogonalizes and decays it; a convolution has four, and neither takes it.

Found: WD102, WD104
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import torchdecay as td


class Speech(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, width)
        self.mix = nn.Conv2d(1, 1, 3, padding=1)
        self.hidden, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.head = nn.Linear(width, 30)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = x + self.mix(x.unsqueeze(1)).squeeze(1)
        return self.head(self.norm(torch.relu(self.hidden(x))))


def setup() -> tuple[list[torch.optim.Optimizer], nn.Module]:
    model = Speech()
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    muon = torch.optim.Muon(matrices, lr=2e-2, weight_decay=0.1)
    adamw = torch.optim.AdamW(vectors, lr=3e-4, weight_decay=0.0)
    return [muon, adamw], model


def fixed() -> tuple[list[torch.optim.Optimizer], nn.Module]:
    model = Speech()
    sides = td.split(model, 0.1)
    muon = torch.optim.Muon(sides.matrices, lr=2e-2)
    return [muon, torch.optim.AdamW(sides.others, lr=3e-4)], model
