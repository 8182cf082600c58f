from torch import nn, optim


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(8)
        self.debias_proj = nn.Linear(8, 8)


SPARED = ("bias", "bn")  #! WD506


def groups(net):
    a, b = [], []
    for name, value in net.named_parameters():
        if any(part in name for part in SPARED):
            b.append(value)
        else:
            a.append(value)
    return optim.AdamW([{"params": a}, {"params": b, "weight_decay": 0}], lr=1e-3)
# ── mended ──
from torch import nn, optim


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(8)
        self.debias_proj = nn.Linear(8, 8)


SPARED = (".bias", "bn.")


def groups(net):
    a, b = [], []
    for name, value in net.named_parameters():
        if any(part in name for part in SPARED):
            b.append(value)
        else:
            a.append(value)
    return optim.AdamW([{"params": a}, {"params": b, "weight_decay": 0}], lr=1e-3)
