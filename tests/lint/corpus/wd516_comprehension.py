import torch

groups = [
    {"params": [p], "weight_decay": 0.1} if p.ndim > 1 else {"params": [p], "weight_decay": 0.1}  #! WD516
    for p in model.parameters()
]
optimizer = torch.optim.AdamW(groups)
# ── mended ──
import torch

groups = [
    {"params": [p], "weight_decay": 0.1} if p.ndim > 1 else {"params": [p], "weight_decay": 0.0}
    for p in model.parameters()
]
optimizer = torch.optim.AdamW(groups)
