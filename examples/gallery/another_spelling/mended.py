"""The list has both spellings."""

import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(16, 32)
        self.layer_norm = nn.LayerNorm(32)
        self.classifier = nn.Linear(32, 4)

    def forward(self, x):
        return self.classifier(torch.relu(self.layer_norm(self.dense(x))))


torch.manual_seed(0)
model = Encoder()
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
no_decay = ["bias", "LayerNorm.weight", "layer_norm.weight"]
decayed = [p for n, p in model.named_parameters() if not any(part in n for part in no_decay)]
spared = [p for n, p in model.named_parameters() if any(part in n for part in no_decay)]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
