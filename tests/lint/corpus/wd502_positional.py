from torch import optim


def get_optimizer(weights, lr, weight_decay=0.0005):
    if lr > 0.01:
        return optim.RMSprop(weights, lr, 0.99, 1e-8, weight_decay)  #! WD502
    return optim.NAdam(weights, lr=lr, weight_decay=weight_decay)  #! WD502
# ── mended ──
from torch import optim


def get_optimizer(weights, lr, weight_decay=0.0005):
    if lr > 0.01:
        return optim.SGD(weights, lr, 0.9, 0, weight_decay)
    return optim.NAdam(weights, lr=lr, weight_decay=weight_decay, decoupled_weight_decay=True)
