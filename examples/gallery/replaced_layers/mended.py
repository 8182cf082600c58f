"""The optimizer is built behind it."""

import torch
from torch import nn

import torchdecay as td


def speed_up(model):
    keep = model[0].weight.norm(dim=1).topk(16).indices
    first, last = nn.Linear(16, 16), nn.Linear(16, 4)
    first.weight.data, first.bias.data = model[0].weight.data[keep], model[0].bias.data[keep]
    last.weight.data, last.bias.data = model[2].weight.data[:, keep], model[2].bias.data
    model[0], model[2] = first, last


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
speed_up(model)
optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
