import torch


def build(model):
    decay, spared, skip = [], [], ["bias", "LayerNorm.weight"]
    for name, p in model.named_parameters():
        print(name, p.shape)
    for name, p in model.named_parameters():
        if name in skip:  #! WD504
            spared.append(p)
        else:
            decay.append(p)
    return torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}])
# ── mended ──
import torch


def build(model):
    decay, spared, skip = [], [], ["bias", "ln_f.weight"]
    for name, p in model.named_parameters():
        print(name, p.shape)
    for name, p in model.named_parameters():
        name = name.rpartition(".")[2]
        if name in skip:
            spared.append(p)
        else:
            decay.append(p)
    return torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}])
