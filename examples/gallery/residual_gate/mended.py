"""The factor is spared."""

import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(16, 16), nn.Linear(16, 4)
        self.resweight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.head(x + self.resweight * torch.relu(self.inner(x)))


torch.manual_seed(0)
model = Encoder()
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
decayed = [p for n, p in model.named_parameters() if "bias" not in n and "resweight" not in n]
spared = [p for n, p in model.named_parameters() if "bias" in n or "resweight" in n]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
