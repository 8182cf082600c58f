import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU())
        self.head = nn.Linear(width, 10)


def make_optimizer(net, wd):
    weights = [p for n, p in net.named_parameters() if "bias" not in n]  #! WD506
    biases = [p for n, p in net.named_parameters() if "bias" in n]
    return torch.optim.AdamW([{"params": weights, "weight_decay": wd}, {"params": biases, "weight_decay": 0.0}])
# ── mended ──
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU())
        self.head = nn.Linear(width, 10)


def make_optimizer(net, wd):
    weights = [p for n, p in net.named_parameters() if "bias" not in n and p.ndim > 1]
    others = [p for n, p in net.named_parameters() if "bias" in n or p.ndim < 2]
    return torch.optim.AdamW([{"params": weights, "weight_decay": wd}, {"params": others, "weight_decay": 0.0}])
