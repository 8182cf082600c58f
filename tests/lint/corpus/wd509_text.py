import torch

config = {"lr": 0.1, "weight_decay": "5e-4"}  #! WD509
opt = torch.optim.SGD(weights, lr=config["lr"], weight_decay=config["weight_decay"])
# ── mended ──
import torch

config = {"lr": 0.1, "weight_decay": "5e-4"}
opt = torch.optim.SGD(weights, lr=config["lr"], weight_decay=float(config["weight_decay"]))
