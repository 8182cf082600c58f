"""A fused layer names its tensors "norm_w" and "output_b": the list that was right for the plain one spares nothing.

Source: deepspeedai/DeepSpeedExamples#68, "No decay for deepspeed norm params?"
"""

import torch
from torch import nn


class Encoder(nn.Module):
    """A layer as a fused kernel wants it: all tensors side by side, under names of its own."""

    def __init__(self):
        super().__init__()
        self.inter_w, self.inter_b = nn.Parameter(torch.randn(32, 16) / 4), nn.Parameter(torch.zeros(32))
        self.norm_w, self.norm_b = nn.Parameter(torch.ones(32)), nn.Parameter(torch.zeros(32))
        self.output_w, self.output_b = nn.Parameter(torch.randn(4, 32) / 6), nn.Parameter(torch.zeros(4))

    def forward(self, x):
        hidden = nn.functional.linear(x, self.inter_w, self.inter_b)
        hidden = nn.functional.layer_norm(hidden, (32,), self.norm_w, self.norm_b)
        return nn.functional.linear(torch.relu(hidden), self.output_w, self.output_b)


torch.manual_seed(0)
model = Encoder()
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
no_decay = ["bias", "LayerNorm.bias", "LayerNorm.weight"]
decayed = [p for n, p in model.named_parameters() if not any(part in n for part in no_decay)]
spared = [p for n, p in model.named_parameters() if any(part in n for part in no_decay)]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
