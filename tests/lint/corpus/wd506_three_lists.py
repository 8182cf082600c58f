from torch import nn
from torch.optim import AdamW


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 8)


def build(net):
    named = {n: p for n, p in net.named_parameters() if p.requires_grad}
    biases = [p for n, p in named.items() if n.endswith("bias")]  #! WD506
    norms = [p for n, p in named.items() if "norm" in n and not n.endswith("bias")]
    weights = [p for n, p in named.items() if "norm" not in n and not n.endswith("bias")]
    return AdamW([{"params": weights, "weight_decay": 0.1}, {"params": biases + norms, "weight_decay": 0.0}])
# ── mended ──
from torch import nn
from torch.optim import AdamW


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 8)


def build(net):
    named = {n: p for n, p in net.named_parameters() if p.requires_grad}
    biases = [p for n, p in named.items() if n.endswith("bias")]
    norms = [p for n, p in named.items() if "ln" in n and not n.endswith("bias")]
    weights = [p for n, p in named.items() if "ln" not in n and not n.endswith("bias")]
    return AdamW([{"params": weights, "weight_decay": 0.1}, {"params": biases + norms, "weight_decay": 0.0}])
