import torch


def optimizer_for(net):
    decayed, not_decayed = [], []
    for n, p in net.named_parameters():
        if not p.requires_grad:
            continue
        if p.ndim <= 1:
            not_decayed.append(p)
        else:
            decayed.append(p)
    return torch.optim.AdamW([*decayed, *not_decayed], lr=1e-3)  #! WD513
# ── mended ──
import torch


def optimizer_for(net):
    decayed, not_decayed = [], []
    for n, p in net.named_parameters():
        if not p.requires_grad:
            continue
        if p.ndim <= 1:
            not_decayed.append(p)
        else:
            decayed.append(p)
    return torch.optim.AdamW([*decayed, *not_decayed], lr=1e-3, weight_decay=0.0)
