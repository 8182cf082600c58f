"""The model got another token, and the list of what is not to decay did not: the new token decays.

Source: huggingface/pytorch-image-models#2713, "Fix reg_token not being added to no-weight decay and stem/embed lr group"
"""

import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(4, 16), nn.Linear(16, 4)
        self.cls_token, self.reg_token = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 2, 16))
        self.mix = nn.MultiheadAttention(16, 2, batch_first=True)

    def no_weight_decay(self):
        return {"cls_token"}

    def forward(self, x):
        tokens = self.embed(x.view(-1, 4, 4))
        more = (self.cls_token.expand(len(x), -1, -1), self.reg_token.expand(len(x), -1, -1))
        tokens = torch.cat((*more, tokens), dim=1)
        return self.head(self.mix(tokens, tokens, tokens)[0][:, 0])


def groups_of(model, weight_decay):
    skip = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    decay, spared = [], []
    for name, param in model.named_parameters():
        if param.ndim <= 1 or name in skip:
            spared.append(param)
        else:
            decay.append(param)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]


torch.manual_seed(0)
model = Encoder()
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
optimizer = torch.optim.AdamW(groups_of(model, 0.1), lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
