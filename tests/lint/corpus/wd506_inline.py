from torch import nn
from torch.optim import AdamW


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm1 = nn.LayerNorm(d)
        self.fc = nn.Linear(d, d)


def param_groups(model, wd):
    decay, rest = [], []
    for name, p in model.named_parameters():
        if "bias" in name or "LayerNorm.weight" in name:  #! WD506
            rest.append(p)
        else:
            decay.append(p)
    return [{"params": decay, "weight_decay": wd}, {"params": rest, "weight_decay": 0.0}]


def build(model):
    return AdamW(param_groups(model, 0.1), lr=1e-3)
# ── mended ──
from torch import nn
from torch.optim import AdamW


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm1 = nn.LayerNorm(d)
        self.fc = nn.Linear(d, d)


def param_groups(model, wd):
    decay, rest = [], []
    for name, p in model.named_parameters():
        if p.ndim == 1 or "bias" in name or "LayerNorm.weight" in name:
            rest.append(p)
        else:
            decay.append(p)
    return [{"params": decay, "weight_decay": wd}, {"params": rest, "weight_decay": 0.0}]


def build(model):
    return AdamW(param_groups(model, 0.1), lr=1e-3)
