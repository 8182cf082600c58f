import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.ln1 = nn.LayerNorm(d)
        self.fc = nn.Linear(d, d)


def groups(model):
    decay, spared = [], []
    for n, p in model.named_parameters():
        if n.endswith(("bias", "norm.weight")):  #! WD506
            spared.append(p)
        else:
            decay.append(p)
    return [{"params": decay, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]


optimizer = torch.optim.AdamW(groups(Block(8)), lr=1e-3)
# ── mended ──
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.ln1 = nn.LayerNorm(d)
        self.fc = nn.Linear(d, d)


def groups(model):
    decay, spared = [], []
    for n, p in model.named_parameters():
        if n.endswith(("bias", "ln1.weight")):
            spared.append(p)
        else:
            decay.append(p)
    return [{"params": decay, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]


optimizer = torch.optim.AdamW(groups(Block(8)), lr=1e-3)
