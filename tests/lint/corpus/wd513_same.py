from torch.optim import AdamW


def configure_optimizers(self):
    with_decay, without_decay = [], []
    for p in self.net.parameters():
        if p.dim() >= 2:
            with_decay.append(p)
        else:
            without_decay.append(p)
    return AdamW(
        [
            {"params": with_decay, "weight_decay": self.wd},
            {"params": without_decay, "weight_decay": self.wd},  #! WD513
        ],
        lr=self.lr,
    )
# ── mended ──
from torch.optim import AdamW


def configure_optimizers(self):
    with_decay, without_decay = [], []
    for p in self.net.parameters():
        if p.dim() >= 2:
            with_decay.append(p)
        else:
            without_decay.append(p)
    return AdamW(
        [
            {"params": with_decay, "weight_decay": self.wd},
            {"params": without_decay, "weight_decay": 0.0},
        ],
        lr=self.lr,
    )
