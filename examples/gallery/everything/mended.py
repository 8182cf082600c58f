"""Two groups, by what a parameter is for."""

import torch
from torch import nn

import torchdecay as td

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
