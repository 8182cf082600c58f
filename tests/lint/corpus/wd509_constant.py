import torch

WD = "0.01"  #! WD509


def make(params):
    return torch.optim.AdamW(params, lr=1e-3, weight_decay=WD)
# ── mended ──
import os

import torch

WD = os.environ.get("WD", "0.01")


def make(params):
    return torch.optim.AdamW(params, lr=1e-3, weight_decay=float(WD))
