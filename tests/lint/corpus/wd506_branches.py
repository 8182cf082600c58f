from torch import nn
from torch.optim import AdamW


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.normal_proj = nn.Linear(16, 16)
        self.bn = nn.BatchNorm1d(16)


model = Head()
decay, rest = [], []
for n, p in model.named_parameters():
    if "norm" in n:  #! WD506
        rest.append(p)
    elif "bn" in n:
        rest.append(p)
    elif "bias" in n:
        rest.append(p)
    else:
        decay.append(p)
optimizer = AdamW([{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}])
# ── mended ──
from torch import nn
from torch.optim import AdamW


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.normal_proj = nn.Linear(16, 16)
        self.bn = nn.BatchNorm1d(16)


model = Head()
decay, rest = [], []
for n, p in model.named_parameters():
    if "bn" in n:
        rest.append(p)
    elif "bias" in n:
        rest.append(p)
    else:
        decay.append(p)
optimizer = AdamW([{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}])
