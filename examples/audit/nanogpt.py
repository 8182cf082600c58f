"""A small GPT, as such are trained everywhere: what has two dimensions decays.

The position table has two dimensions as well, and the output layer is the token embedding: both decay. No row of the
embedding is idle, though: as the output layer it has a gradient for every word.

Found: WD102, WD107
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import torchdecay as td


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.ln_1(x)
        hidden = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        x = x + self.attn(seen, seen, seen, attn_mask=hidden, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, words: int = 100, context: int = 16, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(words, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, words, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def setup() -> tuple[torch.optim.Optimizer, nn.Module]:
    torch.manual_seed(0)
    model = GPT()
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95))
    tokens = torch.randint(100, (4, 13))
    F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
    return optimizer, model


def fixed() -> tuple[torch.optim.Optimizer, nn.Module]:
    model = GPT()
    return torch.optim.AdamW(td.param_groups(model, 0.1), lr=3e-4, betas=(0.9, 0.95)), model
