"""It is written in the loop."""

import math

import torch
from torch import nn

import torchdecay as td

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=1e-3)
for step in range(20):
    lr = 0.5e-3 * (1 + math.cos(math.pi * step / 20))
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
