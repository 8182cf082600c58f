from torch import optim

optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-4)  #! WD501
for data, target in loader:
    output = model(data)
    reg = sum((w ** 2).sum() for w in model.parameters())  #! WD508
    loss = loss_fn(output, target) + 0.5 * 1e-4 * reg
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
# ── mended ──
from torch import optim

optimizer = optim.SGD(model.parameters(), lr=0.1)
for data, target in loader:
    output = model(data)
    reg = sum((w ** 2).sum() for w in model.parameters())
    loss = loss_fn(output, target) + 0.5 * 1e-4 * reg
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
