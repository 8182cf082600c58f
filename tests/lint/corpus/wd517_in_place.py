from torch.optim.optimizer import Optimizer


class Own(Optimizer):
    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    def step(self, closure=None):
        """Take a step, with weight_decay."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad = p.grad
                grad.add_(p.data, alpha=group["weight_decay"])  #! WD517
                p.data.add_(grad, alpha=-group["lr"])
# ── mended ──
from torch.optim.optimizer import Optimizer


class Own(Optimizer):
    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    def step(self, closure=None):
        """Take a step, with weight_decay."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad = p.grad.clone()
                grad.add_(p.data, alpha=group["weight_decay"])
                p.data.add_(grad, alpha=-group["lr"])
