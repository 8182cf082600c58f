"""Decay is added to gradients that are still scaled, and divided with them: it is a thousand times too weak.

Source: chainer/chainer#7335, "Grad is wrong when using `WeightDecay` of Optimizer Hook and loss scaling"
"""

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
SCALE, WEIGHT_DECAY = 1024.0, 0.01
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    (SCALE * loss).backward()
    for p in model.parameters():
        if p.ndim > 1:
            p.grad.add_(p.detach(), alpha=WEIGHT_DECAY)
    for p in model.parameters():
        p.grad.div_(SCALE)
    optimizer.step()
