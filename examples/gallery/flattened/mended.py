"""Who decays goes by name."""

import torch
from torch import nn


class Encoder(nn.Module):
    """Its weights are flat, as a sharded wrapper keeps them, and get their shape where they are used."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(32 * 16) / 4), nn.Parameter(torch.randn(4 * 32) / 6)
        self.shift = nn.Parameter(torch.zeros(32))

    def forward(self, x):
        hidden = torch.relu(x @ self.up.view(32, 16).T + self.shift)
        return hidden @ self.down.view(4, 32).T


torch.manual_seed(0)
model = Encoder()
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
decayed = [p for n, p in model.named_parameters() if n in ("up", "down")]
spared = [p for n, p in model.named_parameters() if n not in ("up", "down")]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
