import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln = nn.LayerNorm(3)
        self.proj = nn.Linear(3, 3)


def is_spared(n):
    return "bias" in n or "norm" in n


def build(model):
    decay = [p for n, p in model.named_parameters() if not is_spared(n)]  #! WD506
    rest = [p for n, p in model.named_parameters() if is_spared(n)]
    return torch.optim.AdamW([{"params": decay}, {"params": rest, "weight_decay": 0.0}])


exclude = lambda name, param: param.ndim < 2 or "bias" in name
model = Layer()
left = [p for n, p in model.named_parameters() if exclude(n, p)]
right = [p for n, p in model.named_parameters() if not exclude(n, p)]
optimizer = torch.optim.AdamW([{"params": left, "weight_decay": 0.0}, {"params": right, "weight_decay": 0.2}])
# ── mended ──
import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln = nn.LayerNorm(3)
        self.proj = nn.Linear(3, 3)


def is_spared(n):
    return "bias" in n or "ln" in n


def build(model):
    decay = [p for n, p in model.named_parameters() if not is_spared(n)]
    rest = [p for n, p in model.named_parameters() if is_spared(n)]
    return torch.optim.AdamW([{"params": decay}, {"params": rest, "weight_decay": 0.0}])


exclude = lambda name, param: param.ndim < 2 or "bias" in name
model = Layer()
left = [p for n, p in model.named_parameters() if exclude(n, p)]
right = [p for n, p in model.named_parameters() if not exclude(n, p)]
optimizer = torch.optim.AdamW([{"params": left, "weight_decay": 0.0}, {"params": right, "weight_decay": 0.2}])
