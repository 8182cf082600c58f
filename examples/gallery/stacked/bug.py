"""A wrapper decays the weights by itself, and the optimizer inside still has its weight_decay: they are pulled twice.

Source: dylanyunlon/Neuron_SP#13, "[P0] double weight_decay — decoupled_weight_decay + optimizer wd stacks"
"""

import torch
from torch import nn


def decay(optimizer, weight_decay):
    """Decay of our own, decoupled."""
    with torch.no_grad():
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.ndim > 1:
                    p.mul_(1 - group["lr"] * weight_decay)


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
weights = [p for p in model.parameters() if p.ndim > 1]
others = [p for p in model.parameters() if p.ndim < 2]
groups = [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-2)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    decay(optimizer, 0.1)
