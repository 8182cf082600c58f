import itertools

import torch

decay, no_decay = [], []
for name, p in model.named_parameters():
    (no_decay if p.ndim < 2 else decay).append(p)
optimizer = torch.optim.AdamW(itertools.chain(decay, no_decay), lr=1e-3, weight_decay=0.1)  #! WD513
# ── mended ──
import itertools

import torch

decay, no_decay = [], []
for name, p in model.named_parameters():
    (no_decay if p.ndim < 2 else decay).append(p)
torch.nn.utils.clip_grad_norm_(itertools.chain(decay, no_decay), 1.0)
optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0}])
