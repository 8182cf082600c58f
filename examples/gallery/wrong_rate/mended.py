"""Decay goes by the rate that the update has."""

import torch
from torch import nn


class Ranger(torch.optim.Optimizer):
    """AdamW without its second moment, and with a warm-up of its own."""

    def __init__(self, params, lr, beta=0.9, weight_decay=0.0, warmup=10):
        super().__init__(params, {"lr": lr, "beta": beta, "weight_decay": weight_decay})
        self.warmup, self.steps = warmup, 0

    @torch.no_grad()
    def step(self, closure=None):
        self.steps += 1
        for group in self.param_groups:
            lr = group["lr"] * min(1.0, self.steps / self.warmup)
            for p in (p for p in group["params"] if p.grad is not None):
                p.mul_(1 - lr * group["weight_decay"])
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - group["beta"])
                p.add_(average, alpha=-lr)


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
weights = [p for p in model.parameters() if p.ndim > 1]
others = [p for p in model.parameters() if p.ndim < 2]
optimizer = Ranger([{"params": weights, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], lr=0.1)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
