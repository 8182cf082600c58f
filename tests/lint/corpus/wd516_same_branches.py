import torch


def split(model, wd):
    decay, no_decay = [], []
    for n, p in model.named_parameters():
        if "bias" in n or "norm" in n:  #! WD516
            decay.append(p)
        else:
            decay.append(p)
    return torch.optim.AdamW([{"params": decay, "weight_decay": wd}, {"params": no_decay, "weight_decay": 0.0}])
# ── mended ──
import torch


def split(model, wd):
    decay, no_decay = [], []
    for n, p in model.named_parameters():
        if "bias" in n or "norm" in n:
            no_decay.append(p)
        else:
            decay.append(p)
    return torch.optim.AdamW([{"params": decay, "weight_decay": wd}, {"params": no_decay, "weight_decay": 0.0}])
