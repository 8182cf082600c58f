import torch

groups = [
    {"params": [p], "weight_decay": 0.1 if p.ndim > 1 else 0.1}  #! WD516
    for p in model.parameters()
]
opt = torch.optim.AdamW(groups, lr=1e-3)
# ── mended ──
import torch

groups = [{"params": [p], "weight_decay": 0.1 if p.ndim > 1 else 0.0} for p in model.parameters()]
opt = torch.optim.AdamW(groups, lr=1e-3)
