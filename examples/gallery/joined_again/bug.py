"""One function sorts, the next one joins what it sorted: biases and norms decay.

Source: nvidia-cosmos/cosmos-predict2.5#165, "Question: Intent behind combining decay and no-decay parameter groups"
"""

import torch
from torch import nn


def get_optimizer(model, lr, weight_decay):
    decay_params = [p for p in model.parameters() if p.dim() >= 2]
    nodecay_params = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW(decay_params + nodecay_params, lr=lr, weight_decay=weight_decay)


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
optimizer = get_optimizer(model, 1e-3, 0.1)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
