"""The sum is a tensor of its own."""

import torch
from torch import nn


class SGD(torch.optim.Optimizer):
    def __init__(self, params, lr, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                gradient = p.grad.add(p, alpha=group["weight_decay"])
                p.add_(gradient, alpha=-group["lr"])


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
weights = [p for p in model.parameters() if p.ndim > 1]
others = [p for p in model.parameters() if p.ndim < 2]
optimizer = SGD([{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=0.1)
for step in range(20):
    if step % 4 == 0:  # gradients of four steps are averaged as they come
        optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y) / 4
    loss.backward()
    optimizer.step()
