import torch

SKIP = {"bias", ".norm.weight"}


def param_groups(net, wd):
    with_wd, without_wd = [], []
    for key, value in net.named_parameters():
        if not value.requires_grad:
            continue
        if key in SKIP:  #! WD504
            without_wd.append(value)
        else:
            with_wd.append(value)
    return [{"params": without_wd, "weight_decay": 0.0}, {"params": with_wd, "weight_decay": wd}]
# ── mended ──
import torch

SKIP = {"pos_embed", "cls_token", "norm.weight", "norm.bias"}


def param_groups(net, wd):
    with_wd, without_wd = [], []
    for key, value in net.named_parameters():
        if not value.requires_grad:
            continue
        if value.ndim == 1 or key in SKIP:
            without_wd.append(value)
        else:
            with_wd.append(value)
    return [{"params": without_wd, "weight_decay": 0.0}, {"params": with_wd, "weight_decay": wd}]
