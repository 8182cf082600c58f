import torch

params = []
for key, value in model.named_parameters():
    lr, decay = 1e-3, 5e-4
    if "bias" in key:
        lr, decay = 2e-3, 0.0
params += [{"params": [value], "lr": lr, "weight_decay": decay}]  #! WD505
optimizer = torch.optim.SGD(params, momentum=0.9)
# ── mended ──
import torch

params = []
for key, value in model.named_parameters():
    lr, decay = 1e-3, 5e-4
    if "bias" in key:
        lr, decay = 2e-3, 0.0
    params += [{"params": [value], "lr": lr, "weight_decay": decay}]
optimizer = torch.optim.SGD(params, momentum=0.9)
