import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 8, bias=False)
        self.b = nn.Linear(8, 2)


net = Net()
opt = torch.optim.AdamW(net.parameters(), 1e-3)  #! WD501
# ── mended ──
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 8, bias=False)
        self.b = nn.Linear(8, 2, bias=False)


net = Net()
opt = torch.optim.AdamW(net.parameters(), 1e-3)
