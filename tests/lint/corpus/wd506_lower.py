import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln = nn.LayerNorm(3)
        self.proj = nn.Linear(3, 3)


def build(model):
    decay, rest = [], []
    for n, p in model.named_parameters():
        (rest if "bias" in n.lower() or "norm" in n.lower() else decay).append(p)  #! WD506
    return torch.optim.AdamW([{"params": decay}, {"params": rest, "weight_decay": 0.0}])
# ── mended ──
import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln = nn.LayerNorm(3)
        self.proj = nn.Linear(3, 3)


def build(model):
    decay, rest = [], []
    for n, p in model.named_parameters():
        (rest if "bias" in n.lower() or "ln" in n.lower() else decay).append(p)
    return torch.optim.AdamW([{"params": decay}, {"params": rest, "weight_decay": 0.0}])
