import torch

decay = [p for p in model.parameters() if p.ndim >= 2]  #! WD516
spared = [p for p in model.parameters() if p.ndim >= 2]
optimizer = torch.optim.AdamW(
    [
        {"params": decay, "weight_decay": 0.1},
        {"params": spared, "weight_decay": 0.0},  #! WD516
    ]
)
# ── mended ──
import torch

decay = [p for p in model.parameters() if p.ndim >= 2]
spared = [p for p in model.parameters() if p.ndim < 2]
optimizer = torch.optim.AdamW(
    [
        {"params": decay, "weight_decay": 0.1},
        {"params": spared, "weight_decay": 0.0},
    ]
)
