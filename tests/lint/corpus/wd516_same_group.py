from torch.optim import AdamW

groups = []
for name, p in model.named_parameters():
    if "bias" in name or p.ndim == 1:  #! WD516
        groups.append({"params": [p], "lr": 1e-3, "weight_decay": 0.1})
    else:
        groups += [{"params": [p], "lr": 1e-3, "weight_decay": 0.1}]
optimizer = AdamW(groups)
# ── mended ──
from torch.optim import AdamW

groups = []
for name, p in model.named_parameters():
    if "bias" in name or p.ndim == 1:
        groups.append({"params": [p], "lr": 1e-3, "weight_decay": 0.0})
    else:
        groups += [{"params": [p], "lr": 1e-3, "weight_decay": 0.1}]
optimizer = AdamW(groups)
