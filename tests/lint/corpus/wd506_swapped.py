import torch

no_decay = ["bias", "LayerNorm.weight", "norm"]
sorted_out = [p for n, p in bert.named_parameters() if any(nd in n for nd in no_decay)]
rest = [p for n, p in bert.named_parameters() if not any(nd in n for nd in no_decay)]
groups = [
    {"params": sorted_out, "weight_decay": 0.01},  #! WD506
    {"params": rest, "weight_decay": 0.0},
]
optimizer = torch.optim.AdamW(groups, lr=2e-5)


def by_branches(model, wd):
    decay, spared = [], []
    for name, p in model.named_parameters():
        if p.ndim < 2 or name.endswith(".bias"):
            decay.append(p)
        else:
            spared.append(p)
    return torch.optim.AdamW(
        [{"params": decay, "weight_decay": wd}, {"params": spared, "weight_decay": 0.0}], lr=1e-3  #! WD506
    )
# ── mended ──
import torch

no_decay = ["bias", "LayerNorm.weight", "norm"]
sorted_out = [p for n, p in bert.named_parameters() if any(nd in n for nd in no_decay)]
rest = [p for n, p in bert.named_parameters() if not any(nd in n for nd in no_decay)]
groups = [
    {"params": sorted_out, "weight_decay": 0.0},
    {"params": rest, "weight_decay": 0.01},
]
optimizer = torch.optim.AdamW(groups, lr=2e-5)


def by_branches(model, wd):
    decay, spared = [], []
    for name, p in model.named_parameters():
        if p.ndim < 2 or name.endswith(".bias"):
            spared.append(p)
        else:
            decay.append(p)
    return torch.optim.AdamW([{"params": decay, "weight_decay": wd}, {"params": spared, "weight_decay": 0.0}], lr=1e-3)
