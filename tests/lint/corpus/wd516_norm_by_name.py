import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln = nn.LayerNorm(3)
        self.proj = nn.Linear(3, 3)


def build(model):
    decay, no_decay = [], []
    for n, p in model.named_parameters():
        if "bias" in n:  #! WD516
            no_decay.append(p)
        elif "proj" in n or "attn" in n:
            decay.append(p)
    return torch.optim.AdamW([{"params": decay}, {"params": no_decay, "weight_decay": 0.0}])


def probe(model):
    head = []
    for n, p in model.named_parameters():
        if "proj" in n:
            head.append(p)
    return torch.optim.AdamW(head, weight_decay=0.0)
# ── mended ──
import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln = nn.LayerNorm(3)
        self.proj = nn.Linear(3, 3)


def build(model):
    decay, no_decay = [], []
    for n, p in model.named_parameters():
        if "bias" in n or "ln" in n:
            no_decay.append(p)
        elif "proj" in n or "attn" in n:
            decay.append(p)
    return torch.optim.AdamW([{"params": decay}, {"params": no_decay, "weight_decay": 0.0}])


def probe(model):
    head = []
    for n, p in model.named_parameters():
        if "proj" in n:
            head.append(p)
    return torch.optim.AdamW(head, weight_decay=0.0)
