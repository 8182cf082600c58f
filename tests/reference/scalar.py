"""Every form of decay, slowly: one number at a time, written from the papers' equations, without torch.

A tensor is a list of floats. `Sgd` and `Adam` give the update u of θ ← θ − u from a gradient; a form is a class whose
`gradient` may change the gradient before that, `before` the weights before the update and `after` the weights after.
"""

from __future__ import annotations

import math


class Sgd:
    def __init__(self, lr, momentum=0.0, dampening=0.0):
        self.lr, self.momentum, self.dampening, self.buffer = lr, momentum, dampening, None

    def peek(self, grad):
        """u of this step, without taking it."""
        if not self.momentum:
            return [self.lr * g for g in grad]
        if self.buffer is None:
            return [self.lr * g for g in grad]
        return [
            self.lr * (self.momentum * b + (1 - self.dampening) * g) for b, g in zip(self.buffer, grad, strict=True)
        ]

    def step(self, grad):
        update = self.peek(grad)
        if self.momentum:
            self.buffer = [u / self.lr for u in update]
        return update

    def settled(self, index):
        """How far a gradient of 1 that stays moves a weight in one step, over the learning rate."""
        return (1 - self.dampening) / (1 - self.momentum) if self.momentum else 1.0

    def shared(self):
        """The same, where all elements have the same."""
        return self.settled(0)

    def size(self, grad):
        """What `stable` divides by."""
        return 1 / self.settled(0)


class Adam:
    def __init__(self, lr, betas=(0.9, 0.999), eps=1e-8):
        self.lr, self.betas, self.eps, self.t, self.m, self.v = lr, betas, eps, 0, None, None

    def _next(self, grad):
        b1, b2 = self.betas
        m = self.m or [0.0] * len(grad)
        v = self.v or [0.0] * len(grad)
        m = [b1 * a + (1 - b1) * g for a, g in zip(m, grad, strict=True)]
        v = [b2 * a + (1 - b2) * g * g for a, g in zip(v, grad, strict=True)]
        return m, v, self.t + 1

    def peek(self, grad):
        b1, b2 = self.betas
        m, v, t = self._next(grad)
        return [
            self.lr * (a / (1 - b1**t)) / (math.sqrt(b / (1 - b2**t)) + self.eps) for a, b in zip(m, v, strict=True)
        ]

    def step(self, grad):
        update = self.peek(grad)
        self.m, self.v, self.t = self._next(grad)
        return update

    def settled(self, index):
        return 1 / (math.sqrt(self.v[index] / (1 - self.betas[1] ** self.t)) + self.eps)

    def shared(self):
        return 1.0

    def size(self, grad):
        _, v, t = self._next(grad)
        return math.sqrt(sum(b / (1 - self.betas[1] ** t) for b in v) / len(v))


class Form:
    """No decay at all; subclasses change one of the three places."""

    def gradient(self, w, g, opt):
        return g

    def before(self, w, g, opt):
        return w

    def after(self, w, g, opt, old):
        return w


class Coupled(Form):
    def __init__(self, wd):
        self.wd = wd

    def gradient(self, w, g, opt):
        return [a + self.wd * b for a, b in zip(g, w, strict=True)]


class Decoupled(Form):
    """θ ← θ − c·λ·(θ − ref), c given as a function of the learning rate."""

    def __init__(self, wd, scale=lambda lr: lr, ref=None):
        self.wd, self.scale, self.ref = wd, scale, ref

    def before(self, w, g, opt):
        ref = self.ref or [0.0] * len(w)
        return [a - self.scale(opt.lr) * self.wd * (a - r) for a, r in zip(w, ref, strict=True)]


class Cautious(Form):
    def __init__(self, wd):
        self.wd = wd

    def before(self, w, g, opt):
        return [a - opt.lr * self.wd * a if u * a >= 0 else a for a, u in zip(w, opt.peek(g), strict=True)]


class ElasticNet(Form):
    def __init__(self, l1, l2=0.0):
        self.l1, self.l2 = l1, l2

    def after(self, w, g, opt, old):
        made = []
        for i, z in enumerate(w):
            tau = opt.lr * opt.settled(i)
            made.append(math.copysign(max(abs(z) - tau * self.l1, 0.0), z) / (1 + tau * self.l2))
        return made


class GroupLasso(Form):
    """Slices go to zero together; the size of momentum's steps, and 1 under Adam."""

    def __init__(self, wd, slices):
        self.wd, self.slices = wd, slices

    def after(self, w, g, opt, old):
        made = list(w)
        for places in self.slices:
            length = norm([w[i] for i in places])
            tau = opt.lr * self.wd * opt.shared()
            for i in places:
                made[i] = max(1 - tau / length, 0.0) * w[i] if length else 0.0
        return made


class PNorm(Form):
    def __init__(self, wd, p):
        self.wd, self.p = wd, p

    def after(self, w, g, opt, old):
        return [a / (1 + self.p * opt.lr * self.wd * abs(b) ** (self.p - 2)) for a, b in zip(w, old, strict=True)]


class Proximal(Form):
    def __init__(self, wd, max_lr):
        self.wd, self.max_lr = wd, max_lr

    def after(self, w, g, opt, old):
        return [a / (1 + self.wd * opt.lr / self.max_lr) for a in w]


class Huber(Form):
    def __init__(self, wd, delta):
        self.wd, self.delta = wd, delta

    def after(self, w, g, opt, old):
        tau = opt.lr * self.wd
        return [
            z / (1 + tau) if abs(z) <= (1 + tau) * self.delta else z - tau * math.copysign(self.delta, z) for z in w
        ]


class TowardAverage(Form):
    def __init__(self, wd, beta, start):
        self.wd, self.beta, self.average = wd, beta, list(start)

    def before(self, w, g, opt):
        return [a - opt.lr * self.wd * (a - r) for a, r in zip(w, self.average, strict=True)]

    def after(self, w, g, opt, old):
        self.average = [self.beta * r + (1 - self.beta) * a for a, r in zip(w, self.average, strict=True)]
        return w


class Projected(Form):
    def __init__(self, wd, ref):
        self.wd, self.ref = wd, list(ref)

    def after(self, w, g, opt, old):
        before = [a - r for a, r in zip(old, self.ref, strict=True)]
        now = [a - r for a, r in zip(w, self.ref, strict=True)]
        if not -sum(a * b for a, b in zip(g, before, strict=True)) < 0:
            return w
        share = (norm(now) - norm(before)) / norm(now)
        share = min(max(share, 0.0), 1.0)
        return [a - self.wd * share * b for a, b in zip(w, now, strict=True)]


class Stable(Form):
    def __init__(self, wd):
        self.wd = wd

    def before(self, w, g, opt):
        return [a - opt.lr * self.wd * a / opt.size(g) for a in w]


class Adaptive(Form):
    def __init__(self, wd, beta=0.9):
        self.wd, self.beta, self.mean = wd, beta, 0.0

    def gradient(self, w, g, opt):
        self.mean = (1 - self.beta) * self.mean + self.beta * self.wd * norm(g) / norm(w)
        return [a + self.mean * b for a, b in zip(g, w, strict=True)]


class AdaDecay(Form):
    def __init__(self, wd, alpha=4.0):
        self.wd, self.alpha = wd, alpha

    def gradient(self, w, g, opt):
        size = [abs(a) for a in g]
        mean = sum(size) / len(size)
        std = math.sqrt(sum((a - mean) ** 2 for a in size) / len(size))
        factor = [2 / (1 + math.exp(-self.alpha * (a - mean) / std)) for a in size]
        return [a + self.wd * f * b for a, b, f in zip(g, w, factor, strict=True)]


class Constrained(Form):
    """R = ‖W‖² with ρ = 1/numel; the explicit step while 2μ < 1, the implicit one beyond."""

    def __init__(self, kappa, rho):
        self.kappa, self.rho, self.mu = kappa, rho, 0.0

    def after(self, w, g, opt, old):
        self.mu = max(0.0, self.mu + self.rho * (sum(a * a for a in w) - self.kappa))
        keep = 1 - 2 * self.mu if 2 * self.mu < 1 else 1 / (1 + 2 * self.mu)
        return [a * keep for a in w]


class NormControl(Form):
    def __init__(self, wd, ratio, start, slices=None):
        self.wd, self.ratio, self.slices = wd, ratio, slices or [range(len(start))]
        self.start = [norm([start[i] for i in places]) for places in self.slices]

    def after(self, w, g, opt, old):
        made = list(w)
        for places, start in zip(self.slices, self.start, strict=True):
            k = opt.lr * self.wd * (1 - self.ratio * start / norm([w[i] for i in places]))
            for i in places:
                made[i] = w[i] - k * w[i]
        return made


class NormRule(Form):
    """What becomes of the update, for each slice of a tensor: lists of places that have a norm of their own."""

    def __init__(self, radius, slices, start):
        self.slices, self.start = slices, [norm([start[i] for i in places]) for places in slices]
        self.radius, self.wd = radius, 1.0

    def after(self, w, g, opt, old):
        made = list(w)
        for places, start in zip(self.slices, self.start, strict=True):
            before = [old[i] for i in places]
            radius = {"initial": start, "current": norm(before)}.get(self.radius, self.radius)
            u = [(old[i] - w[i]) / opt.lr for i in places]
            for i, value in zip(places, self.rule(before, u, opt.lr, radius), strict=True):
                made[i] = (1 - self.wd) * w[i] + self.wd * value
        return made


class Hyperball(NormRule):
    def rule(self, w, u, lr, radius):
        return scaled(radius, unit([a - lr * radius * b for a, b in zip(w, unit(u), strict=True)]))


class NormProjection(NormRule):
    def rule(self, w, u, lr, radius):
        return scaled(radius, unit([a - lr * b for a, b in zip(w, u, strict=True)]))


class RadialBrake(NormRule):
    def __init__(self, outward, inward, slices, start):
        super().__init__("current", slices, start)
        self.outward, self.inward = outward, inward

    def rule(self, w, u, lr, radius):
        z = [a - lr * b for a, b in zip(w, u, strict=True)]
        s = self.outward if norm(z) > norm(w) else self.inward
        return scaled(norm(w) + s * (norm(z) - norm(w)), unit(z))


class RelativeUpdate(NormRule):
    def rule(self, w, u, lr, radius):
        return [a - lr * norm(w) / norm(u) * b for a, b in zip(w, u, strict=True)]


def scaled(factor, x):
    return [factor * a for a in x]


def unit(x):
    return scaled(1 / norm(x), x)


def norm(w):
    return math.sqrt(sum(a * a for a in w))


def train(form, opt, weights, gradients, lrs):
    """Weights after each step, under a fixed list of gradients and learning rates."""
    w, seen = list(weights), []
    for given, lr in zip(gradients, lrs, strict=True):
        opt.lr = lr
        old = list(w)
        g = form.gradient(w, list(given), opt)
        w = form.before(w, g, opt)
        w = [a - u for a, u in zip(w, opt.step(g), strict=True)]
        w = form.after(w, list(given), opt, old)
        seen.append(list(w))
    return seen
