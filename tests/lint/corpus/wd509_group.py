import torch

params = [
    {"params": decayed, "weight_decay": "0.1"},  #! WD509
    {"params": rest, "weight_decay": 0.0},
]
opt = torch.optim.AdamW(params)
# ── mended ──
import torch

params = [
    {"params": decayed, "weight_decay": 0.1, "name": "decayed"},
    {"params": rest, "weight_decay": 0.0, "name": "rest"},
]
opt = torch.optim.AdamW(params)
