from dataclasses import dataclass, field

import torch


@dataclass
class TrainArgs:
    lr: float = 1e-3
    weight_decay: float = field(default=0.05)


def build(args: TrainArgs, net: torch.nn.Module):
    return torch.optim.AdamW(net.parameters(), lr=args.lr, weight_decay=args.weight_decay)  #! WD501
# ── mended ──
from dataclasses import dataclass, field

import torch


@dataclass
class TrainArgs:
    lr: float = 1e-3
    weight_decay: float = field(default=0.0)


def build(args: TrainArgs, net: torch.nn.Module):
    return torch.optim.AdamW(net.parameters(), lr=args.lr, weight_decay=args.weight_decay)
