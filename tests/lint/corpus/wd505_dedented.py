import torch.nn as nn
import torch.optim as optim

weights, biases = [], []
for name, p in net.named_parameters():
    if not p.requires_grad:
        continue
if 'bias' in name:  #! WD505
    biases += [p]
else:
    weights += [p]
optimizer = optim.SGD([{'params': weights}, {'params': biases, 'weight_decay': 0}], lr=0.1, weight_decay=1e-4)
# ── mended ──
import torch.nn as nn
import torch.optim as optim

weights, biases = [], []
for name, p in net.named_parameters():
    if not p.requires_grad:
        continue
    if 'bias' in name:
        biases += [p]
    else:
        weights += [p]
optimizer = optim.SGD([{'params': weights}, {'params': biases, 'weight_decay': 0}], lr=0.1, weight_decay=1e-4)
