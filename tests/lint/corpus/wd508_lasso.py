import torch


def training_loss(net, x, y):
    penalty = torch.stack([w.norm(p=2) for w in net.parameters()]).sum()  #! WD508
    loss = torch.nn.functional.mse_loss(net(x), y) + 0.01 * penalty
    loss.backward()
# ── mended ──
import torch


def group_lasso_loss(net, x, y):
    penalty = torch.stack([w.norm(p=2) for w in net.parameters()]).sum()
    loss = torch.nn.functional.mse_loss(net(x), y) + 0.01 * penalty
    loss.backward()


def l1_loss(net, x, y):
    loss = torch.nn.functional.mse_loss(net(x), y) + sum(w.norm(1) for w in net.parameters())
    loss.backward()
