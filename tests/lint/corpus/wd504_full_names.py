import torch

no_decay = {"bias", "wte.weight"}
groups = [
    {"params": [p for n, p in net.named_parameters() if n not in no_decay], "weight_decay": 0.1},  #! WD504
    {"params": [p for n, p in net.named_parameters() if n in no_decay], "weight_decay": 0.0},  #! WD504
]
opt = torch.optim.AdamW(groups, lr=3e-4, fused=True)
# ── mended ──
import torch

no_decay = {"wte.weight", "head.weight", "module.wte.weight", "module.head.weight"}
groups = [
    {"params": [p for n, p in net.named_parameters() if n not in no_decay], "weight_decay": 0.1},
    {"params": [p for n, p in net.named_parameters() if n in no_decay], "weight_decay": 0.0},
]
opt = torch.optim.AdamW(groups, lr=3e-4, fused=True)
