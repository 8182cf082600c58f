from torch.optim import AdamW

BACKBONE_LR = 1e-5
WEIGHT_DECAY = 1e-2


def build(net):
    param_groups = [
        {"params": net.backbone.parameters(), "lr": BACKBONE_LR},
        {"params": net.head.parameters()},
    ]
    return AdamW(param_groups, lr=1e-3, weight_decay=WEIGHT_DECAY)  #! WD501
# ── mended ──
from torch.optim import AdamW

BACKBONE_LR = 1e-5


def build(net):
    param_groups = [
        {"params": net.backbone.parameters(), "lr": BACKBONE_LR},
        {"params": net.head.parameters()},
    ]
    return AdamW(param_groups, lr=1e-3, weight_decay=0.0)
