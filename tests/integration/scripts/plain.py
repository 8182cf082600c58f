"""A loop as people write it; argument: steps."""

import sys

import torch
from weights import fingerprint

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.LayerNorm(32), torch.nn.Linear(32, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
steps = int(sys.argv[1]) if len(sys.argv) > 1 else 25
for _ in range(steps):
    optimizer.zero_grad()
    model(torch.randn(8, 16)).square().mean().backward()
    optimizer.step()
print(fingerprint(model))
