"""A group for each value that is said."""

import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(16, 32)
        self.LayerNorm = nn.LayerNorm(32)
        self.classifier = nn.Linear(32, 4)

        for vector in (self.dense.bias, self.LayerNorm.weight, self.LayerNorm.bias, self.classifier.bias):
            vector.weight_decay = 0.0

    def forward(self, x):
        return self.classifier(torch.relu(self.LayerNorm(self.dense(x))))


torch.manual_seed(0)
model = Encoder()
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
said = {}
for param in model.parameters():
    said.setdefault(getattr(param, "weight_decay", 0.1), []).append(param)
optimizer = torch.optim.AdamW([{"params": some, "weight_decay": wd} for wd, some in said.items()], lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
