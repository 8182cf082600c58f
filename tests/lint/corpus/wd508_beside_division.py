k = 4
for i, (x, y) in enumerate(loader):
    penalty = sum((p**2).sum() for p in net.parameters())  #! WD508
    loss = criterion(net(x), y) / k + 1e-4 * penalty
    loss.backward()
    if (i + 1) % k == 0:
        optimizer.step()
        optimizer.zero_grad()
# ── mended ──
k = 4
for i, (x, y) in enumerate(loader):
    penalty = sum((p**2).sum() for p in net.parameters())
    loss = criterion(net(x), y) / k + 1e-4 * penalty / k
    loss.backward()
    if (i + 1) % k == 0:
        optimizer.step()
        optimizer.zero_grad()
