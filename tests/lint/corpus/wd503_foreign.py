import torch.optim as optim

groups = []
for name, weight in model.named_parameters():
    if weight.ndim > 1:
        groups.append(dict(params=[weight], wd=0.05))  #! WD503
    else:
        groups.append({"params": [weight], "weight_decay_rate": 0.0})  #! WD503
optimizer = optim.AdamW(groups, lr=1e-4)
# ── mended ──
import torch.optim as optim

groups = []
for name, weight in model.named_parameters():
    if weight.ndim > 1:
        groups.append(dict(params=[weight], wd=0.05))
    else:
        groups.append({"params": [weight], "wd": 0.0})
optimizer = optim.AdamW(groups, lr=1e-4, weight_decay=0)
for step in range(100):
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.data.mul_(1 - group["lr"] * group["wd"])
    optimizer.step()
