"""Parameters say themselves whether they decay, and since a refactoring norms do not: the default is that they decay.

Source: ServiceNow/Fast-LLM#542, "Norm weights/biases no longer excluded from weight decay (regression from normalization refactor)"
"""

import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(16, 32)
        self.LayerNorm = nn.LayerNorm(32)
        self.classifier = nn.Linear(32, 4)

        for linear in (self.dense, self.classifier):
            linear.bias.decays = False

    def forward(self, x):
        return self.classifier(torch.relu(self.LayerNorm(self.dense(x))))


torch.manual_seed(0)
model = Encoder()
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
decayed = [p for p in model.parameters() if getattr(p, "decays", True)]
spared = [p for p in model.parameters() if not getattr(p, "decays", True)]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
