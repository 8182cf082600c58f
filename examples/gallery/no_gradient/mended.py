"""What has no gradient is passed over."""

import torch
from torch import nn


class SGD(torch.optim.Optimizer):
    def __init__(self, params, lr, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(p.grad, alpha=-group["lr"])


torch.manual_seed(0)
model = nn.ModuleDict({"used": nn.Linear(16, 4, bias=False), "kept": nn.Linear(16, 4, bias=False)})
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
optimizer = SGD(model.parameters(), lr=0.1, weight_decay=0.1)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model["used"](x), y)
    loss.backward()
    optimizer.step()
