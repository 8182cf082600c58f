"""An engine collects the parameters out of the groups that it is given, and makes a group of its own.

Source: deepspeedai/DeepSpeed#8440, "Muon silently discards the param groups it is given"
"""

import torch
from torch import nn

import torchdecay as td


def configure(groups, config):
    params = [param for group in groups for param in group["params"]]
    return torch.optim.AdamW(params, **config)


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
optimizer = configure(td.param_groups(model, 0.1), {"lr": 1e-3, "weight_decay": 0.01})
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
