"""Half of it."""

import torch
from torch import nn

WEIGHT_DECAY = 1e-4  # as published, for SGD(weight_decay=)

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for _ in range(20):
    optimizer.zero_grad()
    penalty = sum(p.square().sum() for p in model.parameters() if p.ndim > 1)
    loss = nn.functional.cross_entropy(model(x), y) + WEIGHT_DECAY / 2 * penalty
    loss.backward()
    optimizer.step()
