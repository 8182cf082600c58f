"""The configuration has a weight_decay, and what builds the optimizer hands on the rest of it.

Source: salesforce/ALPRO#10, "Weight Decay"
"""

import torch
from torch import nn

opts = {"optim": "adam", "learning_rate": 1e-3, "betas": (0.9, 0.98), "weight_decay": 1e-3}
classes = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
optimizer = classes[opts["optim"]](model.parameters(), lr=opts["learning_rate"], betas=opts["betas"])
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
