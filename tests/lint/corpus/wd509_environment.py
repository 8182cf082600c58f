import os

import torch

optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=os.environ.get("WD", "0.01"))  #! WD509
# ── mended ──
import os

import torch

optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=float(os.environ.get("WD", "0.01")))
