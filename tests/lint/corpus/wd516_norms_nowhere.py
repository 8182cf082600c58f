import torch


def split(model, wd):
    decay, no_decay = [], []
    for name, param in model.named_parameters():
        if name.endswith("bias"):  #! WD516
            no_decay.append(param)
        elif param.ndim >= 2:
            decay.append(param)
    return torch.optim.AdamW([{"params": decay, "weight_decay": wd}, {"params": no_decay, "weight_decay": 0.0}])
# ── mended ──
import torch


def split(model, wd):
    decay, no_decay = [], []
    for name, param in model.named_parameters():
        if name.endswith("bias") or param.ndim < 2:
            no_decay.append(param)
        elif param.ndim >= 2:
            decay.append(param)
    return torch.optim.AdamW([{"params": decay, "weight_decay": wd}, {"params": no_decay, "weight_decay": 0.0}])
