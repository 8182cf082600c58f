import torch

decay, no_decay = [], []
for p in model.parameters():
    if p.ndim >= 2:
        decay.append(p)
    else:
        no_decay.append(p)
params = decay
params.extend(no_decay)
optimizer = torch.optim.AdamW(params, lr=1e-3, weight_decay=0.1)  #! WD513
# ── mended ──
import torch

decay, no_decay = [], []
for p in model.parameters():
    if p.ndim >= 2:
        decay.append(p)
    else:
        no_decay.append(p)
optimizer = torch.optim.AdamW([{"params": decay}, {"params": no_decay, "weight_decay": 0.0}], lr=1e-3, weight_decay=0.1)
