import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(d))


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.pre = RMSNorm(d)
        self.up = nn.Linear(d, 4 * d)


def optimizer(model, wd):
    groups = []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        spare = 0.0 if "norm" in name or name.endswith(".bias") else wd  #! WD506
        groups.append({"params": [p], "weight_decay": spare})
    return torch.optim.AdamW(groups, lr=1e-3)
# ── mended ──
import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(d))


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.pre = RMSNorm(d)
        self.up = nn.Linear(d, 4 * d)


def optimizer(model, wd):
    groups = []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        spare = 0.0 if "pre" in name or name.endswith(".bias") else wd
        groups.append({"params": [p], "weight_decay": spare})
    return torch.optim.AdamW(groups, lr=1e-3)
