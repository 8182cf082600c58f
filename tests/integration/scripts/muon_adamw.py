"""Muon for the matrices, AdamW for the rest, on one model."""

import torch
from torch import nn
from weights import fingerprint

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4))
matrices = [param for param in model.parameters() if param.dim() == 2]
rest = [param for param in model.parameters() if param.dim() != 2]
optimizers = [torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1), torch.optim.AdamW(rest, lr=1e-3)]
for _ in range(5):
    model.zero_grad()
    model(torch.randn(4, 8)).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()
print(fingerprint(model))
