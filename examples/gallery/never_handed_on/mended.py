"""It is handed on, and to an optimizer that decouples it."""

import torch
from torch import nn

import torchdecay as td

opts = {"optim": "adamw", "learning_rate": 1e-3, "betas": (0.9, 0.98), "weight_decay": 1e-3}
classes = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
groups = td.param_groups(model, opts["weight_decay"])
optimizer = classes[opts["optim"]](groups, lr=opts["learning_rate"], betas=opts["betas"])
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
