from functools import partial

import torch

make = partial(torch.optim.AdamW, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)


def setup(module):
    params = [p for p in module.parameters() if p.requires_grad]
    return make(params)  #! WD501
# ── mended ──
from functools import partial

import torch

make = partial(torch.optim.AdamW, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)


def setup(module):
    params = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    rest = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    return make([{"params": params}, {"params": rest, "weight_decay": 0}])
