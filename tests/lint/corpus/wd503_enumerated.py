import torch

optimizer = torch.optim.AdamW(weights, lr=1e-3)
for index, group in enumerate(optimizer.param_groups):
    group["weight_deacy"] = 0.1 / (index + 1)  #! WD503
# ── mended ──
import torch

optimizer = torch.optim.AdamW(weights, lr=1e-3)
for index, group in enumerate(optimizer.param_groups):
    group["weight_decay"] = 0.1 / (index + 1)
