"""One list for each side."""

import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(16, 32)
        self.norm = nn.LayerNorm(32)
        self.classifier = nn.Linear(32, 4)

    def forward(self, x):
        return self.classifier(torch.relu(self.norm(self.dense(x))))


torch.manual_seed(0)
model = Encoder()
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
params_with_wd, params_without_wd = {"params": []}, {"params": [], "weight_decay": 0.0}
for name, parameter in model.named_parameters():
    needs_wd = "norm" not in name and not name.endswith("bias")
    (params_with_wd if needs_wd else params_without_wd)["params"].append(parameter)
groups = [group for group in (params_with_wd, params_without_wd) if group["params"]]
optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
