import torch

config = {"lr": 3e-4, "betas": (0.9, 0.95), "weight_decay": 0.1}  #! WD510
optimizer = torch.optim.Adam(weights, lr=config["lr"], betas=config.get("betas"))
# ── mended ──
import torch

config = {"lr": 3e-4, "betas": (0.9, 0.95), "weight_decay": 0.1}
logged = {"lr": 3e-4, "weight_decay": 0.1}
run.log(logged)
optimizer = torch.optim.AdamW(weights, lr=config["lr"], betas=config.get("betas"), weight_decay=config["weight_decay"])
