import torch

OPTIMIZERS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
optimizer = OPTIMIZERS["adamw"](model.parameters(), lr=1e-3)  #! WD501
# ── mended ──
import torch

OPTIMIZERS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
optimizer = OPTIMIZERS["sgd"](model.parameters(), lr=1e-3)
