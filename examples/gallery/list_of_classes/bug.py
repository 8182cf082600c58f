"""Norms are found by their class, nn.LayerNorm, and this model has a norm of its own: it decays.

Source: huggingface/transformers#35927, "layernorm_decay_fix"
"""

import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(16, 32), RMSNorm(32), nn.Linear(32, 4)

    def forward(self, x):
        return self.down(torch.relu(self.norm(self.up(x))))


torch.manual_seed(0)
model = Encoder()
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
norms = {id(p) for module in model.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()}
decayed = [p for n, p in model.named_parameters() if id(p) not in norms and "bias" not in n]
spared = [p for n, p in model.named_parameters() if id(p) in norms or "bias" in n]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
