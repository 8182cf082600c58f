"""A_log and D of a state-space layer decay with the weights: the times that it remembers are pulled toward one value.

Source: athms/mad-lab#6, "Fix weight decay"
"""

import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(4, 8), nn.Linear(8, 4)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, 5).float()).repeat(8, 1))
        self.D = nn.Parameter(torch.ones(8))

    def forward(self, x):
        decays, state, out = torch.exp(-torch.exp(self.A_log)), 0.0, 0.0
        for u in self.in_proj(x.view(-1, 4, 4)).unbind(1):
            state = decays * state + u.unsqueeze(-1)
            out = state.sum(-1) + self.D * u
        return self.out_proj(out)


torch.manual_seed(0)
model = Encoder()
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
decayed = [p for n, p in model.named_parameters() if not n.endswith("bias")]
spared = [p for n, p in model.named_parameters() if n.endswith("bias")]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
