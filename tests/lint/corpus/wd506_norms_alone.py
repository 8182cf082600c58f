from torch import nn, optim


class Encoder(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.LayerNorm = nn.LayerNorm(d)
        self.dense = nn.Linear(d, d)


def groups(model, wd):
    spared = ["LayerNorm.weight"]  #! WD506
    yes = [p for n, p in model.named_parameters() if not any(s in n for s in spared)]
    no = [p for n, p in model.named_parameters() if any(s in n for s in spared)]
    return optim.AdamW([{"params": yes, "weight_decay": wd}, {"params": no, "weight_decay": 0.0}], lr=2e-5)
# ── mended ──
from torch import nn, optim


class Encoder(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.LayerNorm = nn.LayerNorm(d)
        self.dense = nn.Linear(d, d)


def groups(model, wd):
    spared = ["LayerNorm.weight", "bias"]
    yes = [p for n, p in model.named_parameters() if not any(s in n for s in spared)]
    no = [p for n, p in model.named_parameters() if any(s in n for s in spared)]
    return optim.AdamW([{"params": yes, "weight_decay": wd}, {"params": no, "weight_decay": 0.0}], lr=2e-5)
