"""Who decays goes by the number of dimensions, and the wrapper has flattened the weights to one: nothing decays.

Source: pytorch/pytorch#101343, "Applying Weight Decay to certain parameters with FSDP"
"""

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
decayed = [p for p in model.parameters() if p.ndim >= 2]
spared = [p for p in model.parameters() if p.ndim < 2]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
