"""The penalty is a norm and not its square: it pulls small weights as hard as large ones.

Source: glm-tools/pyglmnet#141, "make sure to square the norm in penalty gradient"
"""

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for _ in range(20):
    optimizer.zero_grad()
    penalty = sum(torch.norm(p) for p in model.parameters())
    loss = nn.functional.cross_entropy(model(x), y) + 1e-3 * penalty
    loss.backward()
    optimizer.step()
