"""Parameters say what their decay is, and the engine asks the global setting alone.

Source: rwth-i6/returnn#1439, "RF PT ignores parameter weight decay, only uses the global optimizer setting"
"""

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
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
