import torch.nn as nn
from torch.optim import AdamW


class Decoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mlp = nn.Linear(width, width)
        self.norm_out = nn.RMSNorm(width)


def get_grouped_params(model, args, no_decay=["bias", "LayerNorm.weight"]):  #! WD506
    params_with_wd, params_without_wd = [], []
    for n, p in model.named_parameters():
        if any(nd in n for nd in no_decay):
            params_without_wd.append(p)
        else:
            params_with_wd.append(p)
    return [
        {"params": params_with_wd, "weight_decay": args.weight_decay},
        {"params": params_without_wd, "weight_decay": 0.0},
    ]
# ── mended ──
import torch.nn as nn
from torch.optim import AdamW


class Decoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mlp = nn.Linear(width, width)
        self.norm_out = nn.RMSNorm(width)


def get_grouped_params(model, args, no_decay=["bias", "norm_out"]):
    params_with_wd, params_without_wd = [], []
    for n, p in model.named_parameters():
        if any(nd in n for nd in no_decay):
            params_without_wd.append(p)
        else:
            params_with_wd.append(p)
    return [
        {"params": params_with_wd, "weight_decay": args.weight_decay},
        {"params": params_without_wd, "weight_decay": 0.0},
    ]
