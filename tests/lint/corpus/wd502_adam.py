import torch
from torch.optim import Adam

wd = 1e-5 * 10
decay = [p for p in model.parameters() if p.dim() > 1]
rest = [p for p in model.parameters() if p.dim() <= 1]
optimizer = Adam([{"params": decay, "weight_decay": wd}, {"params": rest}], lr=1e-3)  #! WD502
# ── mended ──
import torch
from torch.optim import AdamW

wd = 1e-5 * 10
decay = [p for p in model.parameters() if p.dim() > 1]
rest = [p for p in model.parameters() if p.dim() <= 1]
optimizer = AdamW([{"params": decay, "weight_decay": wd}, {"params": rest, "weight_decay": 0}], lr=1e-3)
