"""Fine-tuning an encoder with the list of names that has been handed on for years: "bias" and "LayerNorm.weight".

This model calls its norms `norm`, so no name matches and they decay; so do the embeddings.

Found: WD101, WD102
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import torchdecay as td


class Encoder(nn.Module):
    def __init__(self, words: int = 50, width: int = 16) -> None:
        super().__init__()
        self.word_embeddings, self.position_embeddings = nn.Embedding(words, width), nn.Embedding(12, width)
        self.norm = nn.LayerNorm(width)
        self.dense, self.out_norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.classifier = nn.Linear(width, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.word_embeddings(tokens) + self.position_embeddings(torch.arange(tokens.shape[1])))
        return self.classifier(self.out_norm(x + self.dense(x)).mean(1))


def setup() -> tuple[torch.optim.Optimizer, nn.Module]:
    model = Encoder()
    no_decay = ["bias", "LayerNorm.weight"]
    spared = [p for n, p in model.named_parameters() if any(word in n for word in no_decay)]
    decayed = [p for n, p in model.named_parameters() if not any(word in n for word in no_decay)]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": spared, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=5e-5), model


def fixed() -> tuple[torch.optim.Optimizer, nn.Module]:
    model = Encoder()
    return torch.optim.AdamW(td.param_groups(model, 0.01), lr=5e-5), model
