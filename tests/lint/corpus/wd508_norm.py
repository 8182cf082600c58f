import torch

for x, y in train_loader:
    optimizer.zero_grad()
    loss = criterion(net(x), y)
    l2_reg = torch.tensor(0.0)
    for param in net.parameters():
        l2_reg += torch.norm(param)  #! WD508
    loss += 1e-4 * l2_reg
    loss.backward()
    optimizer.step()
# ── mended ──
import torch

for x, y in train_loader:
    optimizer.zero_grad()
    loss = criterion(net(x), y)
    l2_reg = torch.tensor(0.0)
    for param in net.parameters():
        l2_reg += torch.norm(param) ** 2
    loss += 1e-4 * l2_reg
    loss.backward()
    total = sum(p.grad.norm(2) for p in net.parameters())
    size = sum(p.norm(2) for p in net.parameters())
    print(total, size)
    optimizer.step()
