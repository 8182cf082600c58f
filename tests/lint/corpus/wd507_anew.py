import torch.nn as nn
import torch.optim as optim


class Net(nn.Module):
    pass


net = Net()
optimizer = optim.SGD(net.parameters(), lr=0.1)  #! WD507
if resume:
    net = Net()
    net.load_state_dict(checkpoint)
for x, y in loader:
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
# ── mended ──
import torch.nn as nn
import torch.optim as optim


class Net(nn.Module):
    pass


net = Net()
optimizer = optim.SGD(net.parameters(), lr=0.1)
for x, y in loader:
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
net = Net()
net.load_state_dict(best)
evaluate(net)
optimizer.zero_grad()
