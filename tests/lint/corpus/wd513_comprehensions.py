import torch


def build(m):
    d = [p for p in m.parameters() if p.ndim > 1]
    n = [p for p in m.parameters() if p.ndim < 2]
    return torch.optim.AdamW(d + n, lr=1e-3, weight_decay=0.1)  #! WD513


def groups(m):
    a = [p for n, p in m.named_parameters() if "bias" not in n]  #! WD506
    b = [p for n, p in m.named_parameters() if "bias" in n]
    return torch.optim.AdamW([{"params": a}, {"params": b}], weight_decay=0.1)  #! WD513
# ── mended ──
import torch


def build(m):
    d = [p for p in m.parameters() if p.ndim > 1]
    n = [p for p in m.parameters() if p.ndim < 2]
    return torch.optim.AdamW([{"params": d}, {"params": n, "weight_decay": 0.0}], lr=1e-3, weight_decay=0.1)


def plain(m):
    a = [p for n, p in m.named_parameters() if "bias" not in n]
    b = [p for n, p in m.named_parameters() if "bias" in n]
    return torch.optim.SGD([{"params": a}, {"params": b}], lr=0.1)


def parts(m):
    a = [p for n, p in m.named_parameters() if n.startswith("head")]
    b = [p for n, p in m.named_parameters() if not n.startswith("head")]
    return torch.optim.AdamW(a + b, weight_decay=0.1)
