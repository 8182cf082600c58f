"""Norms are filtered out by name, and nothing filters out the biases: they decay.

Source: Modalities/modalities#142, "Optimizer parameter groups"
"""

import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(16, 32)
        self.norm = nn.LayerNorm(32)
        self.classifier = nn.Linear(32, 4)

    def forward(self, x):
        return self.classifier(torch.relu(self.norm(self.dense(x))))


torch.manual_seed(0)
model = Encoder()
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
decayed = [p for n, p in model.named_parameters() if "norm" not in n]
spared = [p for n, p in model.named_parameters() if "norm" in n]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
