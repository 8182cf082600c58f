"""A plan keeps what is owed, and takes it with stochastic rounding when it is large enough."""

import torch
from torch import nn

import torchdecay as td

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4)).bfloat16()
x, y = torch.randn(64, 16).bfloat16(), torch.randint(0, 4, (64,))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
td.attach(optimizer, td.plan(model, td.decoupled(0.01)), model=model)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
