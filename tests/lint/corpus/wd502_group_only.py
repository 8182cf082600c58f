import torch

opt = torch.optim.Adamax([  #! WD502
    {"params": net.weights(), "weight_decay": 1e-3},
    {"params": net.biases()},
], lr=2e-3)
# ── mended ──
import torch

opt = torch.optim.Adamax([
    {"params": net.weights(), "weight_decay": 0},
    {"params": net.biases()},
], lr=2e-3)
