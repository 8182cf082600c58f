"""Optimizers for the tests of observe: torch's own, strangers, and faulty ones, each with one known fault."""

from __future__ import annotations

import torch
from torch import nn, optim

from torch_optimizers import TORCH, WITHOUT

FUSED = ("SGD", "SGD momentum", "SGD nesterov", "Adagrad", "Adam", "Adam decoupled", "AdamW")
ONLY_LOOP = ("Muon", "SparseAdam")


def cases(names):
    """Each optimizer in each implementation that it has."""
    for name in names:
        yield name, {} if name in ONLY_LOOP else {"foreach": False}
        if name not in ONLY_LOOP:
            yield name, {"foreach": True}
        if name in FUSED:
            yield name, {"fused": True}


def case_id(value):
    if isinstance(value, dict):
        return "-".join(key for key, on in value.items() if on) or "loop"
    return str(value).replace(" ", "-")


def make(name, options, *, weight_decay=0.1, dtype=torch.float32, maximize=False, sizes=(20, 30, 5)):
    """An optimizer over two weight matrices, and their module."""
    cls, known = (TORCH | WITHOUT)[name]
    model = nn.Sequential(
        nn.Linear(sizes[0], sizes[1], bias=False), nn.Tanh(), nn.Linear(sizes[1], sizes[2], bias=False)
    ).to(dtype)
    given = known | options
    if name in TORCH:
        given["weight_decay"] = weight_decay
    if maximize:
        given["maximize"] = True
    return model, cls(model.parameters(), **given)


def live(optimizer):
    """Every parameter with a gradient, with its group."""
    for group in optimizer.param_groups:
        for param in group["params"]:
            if param.grad is not None:
                yield group, param


def without_own_decay(optimizer, step):
    """Take a step of the base class with its weight_decay off."""
    kept = [group["weight_decay"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    step()
    for group, decay in zip(optimizer.param_groups, kept, strict=True):
        group["weight_decay"] = decay


class Ignores(optim.AdamW):
    """Takes a weight_decay and does nothing with it."""

    def step(self, closure=None):
        without_own_decay(self, super().step)


class Twice(optim.AdamW):
    """Shrinks weights, and lets the base class shrink them again."""

    @torch.no_grad()
    def step(self, closure=None):
        for group, param in live(self):
            param.mul_(1 - group["lr"] * group["weight_decay"])
        super().step()


class TwiceCoupled(optim.Adam):
    """Adds the decay to the gradient, and lets the base class add it again."""

    @torch.no_grad()
    def step(self, closure=None):
        for group, param in live(self):
            param.grad = param.grad + group["weight_decay"] * param
        super().step()


class OncePerDtype(optim.SGD):
    """Loops over dtypes, and over all parameters inside: the decay comes as often as there are dtypes."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for _ in {param.dtype for param in group["params"]}:
                for param in group["params"]:
                    if param.grad is not None:
                        param.grad = param.grad + group["weight_decay"] * param
        without_own_decay(self, super().step)


class OneDtypeOnly(optim.AdamW):
    """Decays the parameters of the first one's dtype, and forgets the rest."""

    @torch.no_grad()
    def step(self, closure=None):
        for group, param in live(self):
            if param.dtype == group["params"][0].dtype:
                param.mul_(1 - group["lr"] * group["weight_decay"])
        without_own_decay(self, super().step)


class After(optim.AdamW):
    """Shrinks after the update, which is AdamW's before it."""

    @torch.no_grad()
    def step(self, closure=None):
        without_own_decay(self, super().step)
        for group, param in live(self):
            param.mul_(1 - group["lr"] * group["weight_decay"])


class DecoupledAdam(optim.Adam):
    """Adam's name, AdamW's decay."""

    @torch.no_grad()
    def step(self, closure=None):
        for group, param in live(self):
            param.mul_(1 - group["lr"] * group["weight_decay"])
        without_own_decay(self, super().step)


class CoupledAdamW(optim.AdamW):
    """AdamW's name, Adam's decay."""

    @torch.no_grad()
    def step(self, closure=None):
        for group, param in live(self):
            param.grad = param.grad + group["weight_decay"] * param
        without_own_decay(self, super().step)


class Grows(optim.AdamW):
    """The sign is wrong."""

    @torch.no_grad()
    def step(self, closure=None):
        for group, param in live(self):
            param.mul_(1 + group["lr"] * group["weight_decay"])
        without_own_decay(self, super().step)


class GrowsCoupled(optim.Adam):
    """The sign of the coupled term is wrong."""

    @torch.no_grad()
    def step(self, closure=None):
        for group, param in live(self):
            param.grad = param.grad - group["weight_decay"] * param
        without_own_decay(self, super().step)


class ForgetsLr(optim.AdamW):
    """Shrinks by weight_decay, not by lr·weight_decay."""

    @torch.no_grad()
    def step(self, closure=None):
        for group, param in live(self):
            param.mul_(1 - group["weight_decay"])
        without_own_decay(self, super().step)


class LrTwice(optim.AdamW):
    """Shrinks by lr²·weight_decay."""

    @torch.no_grad()
    def step(self, closure=None):
        for group, param in live(self):
            param.mul_(1 - group["lr"] ** 2 * group["weight_decay"])
        without_own_decay(self, super().step)


class Hidden(optim.AdamW):
    """Shrinks weights whatever weight_decay says."""

    @torch.no_grad()
    def step(self, closure=None):
        for group, param in live(self):
            param.mul_(1 - 0.01 * group["lr"])
        super().step()


class MovesFrozen(optim.AdamW):
    """Decays weights without asking whether they have a gradient."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                param.mul_(1 - group["lr"] * group["weight_decay"])
        without_own_decay(self, super().step)


class Wrapper(optim.Optimizer):
    """Keeps groups of its own, and loses the weight_decay on the way to the optimizer inside."""

    def __init__(self, params, lr, weight_decay):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.inner = optim.AdamW([{"params": group["params"]} for group in self.param_groups], lr=lr, weight_decay=0.0)

    def step(self, closure=None):
        for mine, theirs in zip(self.param_groups, self.inner.param_groups, strict=True):
            theirs["lr"] = mine["lr"]
        return self.inner.step(closure)


class Lion(optim.Optimizer):
    """A class that torchdecay does not know, with its decay where it is told, as often as it is told."""

    def __init__(self, params, lr=0.1, weight_decay=0.0, how="before", times=1.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.how, self.times = how, times

    @torch.no_grad()
    def step(self, closure=None):
        for group, param in live(self):
            momentum = self.state[param].setdefault("m", torch.zeros_like(param))
            decay, grad = group["weight_decay"] * self.times, param.grad
            if self.how == "coupled":
                grad = grad + decay * param
            if self.how == "before":
                param.mul_(1 - group["lr"] * decay)
            if self.how == "per step":
                param.mul_(1 - decay)
            update = (momentum * 0.9 + grad * 0.1).sign()
            momentum.mul_(0.99).add_(grad, alpha=0.01)
            param.sub_(update, alpha=group["lr"])
            if self.how == "after":
                param.mul_(1 - group["lr"] * decay)
            if self.how == "proximal":
                param.div_(1 + group["lr"] * decay)


class Lamb(optim.Optimizer):
    """Decay inside a trust ratio: at none of the sites."""

    def __init__(self, params, lr=0.1, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group, param in live(self):
            update = param.grad.sign() + group["weight_decay"] * param
            param.sub_(update, alpha=group["lr"] * float(param.norm() / update.norm()))


class OwnName(optim.Optimizer):
    """Calls it `wd`, keeps it on itself, and replaces `.data` as old code does."""

    def __init__(self, params, lr, wd):
        super().__init__(params, {"lr": lr})
        self.wd = wd

    def step(self, closure=None):
        for group, param in live(self):
            param.data = param.data - group["lr"] * (param.grad.sign() + self.wd * param.data)
