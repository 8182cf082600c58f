import torch

Opt = getattr(torch.optim, "Adagrad")
opt = Opt(weights, lr=0.1, weight_decay=float("1e-3"))  #! WD502
# ── mended ──
import sys

import torch

Opt = getattr(torch.optim, sys.argv[1])
opt = Opt(weights, lr=0.1, weight_decay=float("1e-3"))
