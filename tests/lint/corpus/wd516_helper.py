from torch.optim import AdamW


def group_of(name, param, wd):
    if param.ndim < 2 or name.endswith(".bias"):  #! WD516
        return {"params": [param], "weight_decay": wd}
    return {"params": [param], "weight_decay": wd}


def optimizer(model):
    return AdamW([group_of(n, p, 0.1) for n, p in model.named_parameters()], lr=1e-3)
# ── mended ──
from torch.optim import AdamW


def group_of(name, param, wd):
    if param.ndim < 2 or name.endswith(".bias"):
        return {"params": [param], "weight_decay": 0.0}
    return {"params": [param], "weight_decay": wd}


def optimizer(model):
    return AdamW([group_of(n, p, 0.1) for n, p in model.named_parameters()], lr=1e-3)
