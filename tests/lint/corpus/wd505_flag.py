import torch

decay, spared = [], []
for name, param in model.named_parameters():
    one_dimensional = param.ndim < 2 or "embed" in name
if one_dimensional:  #! WD505
    spared.append(param)
else:
    decay.append(param)
optimizer = torch.optim.AdamW([{"params": decay}, {"params": spared, "weight_decay": 0.0}], weight_decay=0.1)
# ── mended ──
import torch

decay, spared = [], []
for name, param in model.named_parameters():
    one_dimensional = param.ndim < 2 or "embed" in name
    if one_dimensional:
        spared.append(param)
    else:
        decay.append(param)
if one_dimensional:
    print("the last one is spared")
optimizer = torch.optim.AdamW([{"params": decay}, {"params": spared, "weight_decay": 0.0}], weight_decay=0.1)
