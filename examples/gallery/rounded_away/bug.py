"""In bfloat16 a weight times 0.99999 is the weight: decay of 1e-5 per step does nothing.

Source: Nerogar/OneTrainer#996, "[Bug]: No weight decay with Adam, bf16 and stochastic rounding"
"""

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4)).bfloat16()
x, y = torch.randn(64, 16).bfloat16(), torch.randint(0, 4, (64,))
weights = [p for p in model.parameters() if p.ndim > 1]
others = [p for p in model.parameters() if p.ndim < 2]
groups = [{"params": weights, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
