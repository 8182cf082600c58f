import torch


def decay_hook(optimizer, args, kwargs):
    for p in model.parameters():
        p.grad.add_(1e-3 * p)  #! WD514


optimizer = torch.optim.SGD(weights, lr=0.1)
optimizer.register_step_pre_hook(decay_hook)


def closure():
    optimizer.zero_grad()
    loss = model(x).sum()
    loss.backward()
    return loss


optimizer.step(closure)
# ── mended ──
import torch


def decay_hook(optimizer, args, kwargs):
    for p in model.parameters():
        p.grad.add_(1e-3 * p)


optimizer = torch.optim.SGD(weights, lr=0.1)
optimizer.register_step_pre_hook(decay_hook)
model(x).sum().backward()
optimizer.step()
