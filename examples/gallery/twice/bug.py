"""The optimizer has a weight_decay, and the loss a sum of squares: the weights are pulled twice.

Source: rutgerswiselab/NCR#2, "L2 regularization is performed twice!!"
"""

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 4, bias=False))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
for _ in range(20):
    optimizer.zero_grad()
    l2 = sum(p.pow(2).sum() for p in model.parameters())
    loss = nn.functional.cross_entropy(model(x), y) + 1e-4 * l2
    loss.backward()
    optimizer.step()
