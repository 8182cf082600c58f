import torch

decay, no_decay = [], []
for name, param in model.named_parameters():
    if name.endswith(".bias"):  #! WD506
        no_decay.append(param)
    else:
        decay.append(param)
optimizer = torch.optim.AdamW(decay + no_decay, lr=1e-3, weight_decay=0.05)  #! WD513
# ── mended ──
import torch

decay, no_decay = [], []
for name, param in model.named_parameters():
    if name.endswith(".bias"):
        no_decay.append(param)
    else:
        decay.append(param)
torch.nn.utils.clip_grad_norm_(decay + no_decay, 1.0)
optimizer = torch.optim.AdamW(
    [{"params": decay, "weight_decay": 0.05}, {"params": no_decay, "weight_decay": 0}], lr=1e-3
)
