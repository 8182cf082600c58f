import torch
from accelerate import Accelerator

accelerator = Accelerator()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)  #! WD501 WD502
for x, y in loader:
    loss = torch.nn.functional.mse_loss(model(x), y)
    penalty = 0
    for w in model.parameters():
        penalty = penalty + w.square().sum()  #! WD508
    loss = loss + 1e-4 * penalty
    accelerator.backward(loss)
    optimizer.step()
# ── mended ──
import torch
from accelerate import Accelerator

accelerator = Accelerator()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for x, y in loader:
    loss = torch.nn.functional.mse_loss(model(x), y)
    penalty = 0
    for w in model.parameters():
        penalty = penalty + w.square().sum()
    loss = loss + 1e-4 * penalty
    accelerator.backward(loss)
    optimizer.step()
