"""M1, the ways to decay, each as a user writes it and compared with plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim
from torch.nn import functional as F

import torchdecay as td

STEPS = 20


class Problem:
    """A small regression in float64; the same start and data each time."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)).double()
        self.x, self.y = torch.randn(32, 3).double(), torch.randn(32, 1).double()

    def loss(self):
        return F.mse_loss(self.model(self.x), self.y)

    def weights(self):
        return torch.cat([param.detach().flatten() for param in self.model.parameters()])


def plainly(make, *, penalty=None, after_backward=None, before_step=None, after_step=None):
    """A training loop in plain PyTorch, with places for what a tutorial writes into it."""
    problem = Problem()
    optimizer = make(problem.model.parameters())
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = problem.loss()
        if penalty:
            loss = loss + penalty(problem.model)
        loss.backward()
        if after_backward:
            after_backward(problem.model)
        with torch.no_grad():
            if before_step:
                before_step(problem.model, optimizer)
            optimizer.step()
            if after_step:
                after_step(problem.model)
    return problem.weights()


def planned(decay, make, **options):
    """The same loop with a plan attached: every parameter decays, as in the sources."""
    problem = Problem()
    optimizer = make(problem.model.parameters())
    plan = td.plan(problem.model, decay, rules=td.policies.torch)
    handle = td.attach(optimizer, plan, model=problem.model, **options)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (problem.loss() + handle.penalty(problem.model)).backward()
        optimizer.step()
    return problem.weights()


def sgd(params, **options):
    return optim.SGD(params, lr=0.1, **options)


def adam(params, **options):
    return optim.Adam(params, lr=1e-3, **options)


def square_sum(model):
    return sum(param.pow(2).sum() for param in model.parameters())


def test_m1_1_l2_penalty_in_the_loss():
    """loss + λΣw² over all parameters, λ = 0.001: no ½, so it is weight_decay 2λ."""
    problem = Problem()
    value = td.penalty(problem.model, l2=0.001)
    assert torch.allclose(value, 0.001 * square_sum(problem.model), rtol=1e-14)
    by_hand = plainly(sgd, penalty=lambda model: 0.001 * square_sum(model))
    ours = plainly(sgd, penalty=lambda model: td.penalty(model, l2=0.001))
    assert torch.allclose(ours, by_hand, rtol=0, atol=1e-14)  # summed in another order
    assert torch.allclose(plainly(lambda p: sgd(p, weight_decay=0.002)), by_hand, rtol=0, atol=1e-14)
    assert torch.allclose(planned(td.penalized(0.002), sgd), by_hand, rtol=0, atol=1e-14)
    assert not torch.allclose(plainly(lambda p: sgd(p, weight_decay=0.001)), by_hand, rtol=0, atol=1e-6)


def test_m1_2_l1_penalty_in_the_loss():
    """loss + λΣ|w|; and td.l1, which the penalty is not: it gives exact zeros."""

    def by_hand(model):
        return 0.1 * sum(param.abs().sum() for param in model.parameters())

    problem = Problem()
    assert torch.allclose(td.penalty(problem.model, l1=0.1), by_hand(problem.model), rtol=1e-14)
    expected = plainly(sgd, penalty=by_hand)
    assert torch.allclose(plainly(sgd, penalty=lambda m: td.penalty(m, l1=0.1)), expected, rtol=0, atol=1e-14)
    assert not (expected == 0).any()
    assert (planned(td.l1(0.1), sgd) == 0).any()


def test_m1_3_decay_added_to_the_gradient():
    """After backward, before step: grad += wd·w, for every parameter, wd = 0.1; on any optimizer."""

    def add(model):
        for param in model.parameters():
            param.grad.data.add_(param.data, alpha=0.1)

    for make in (sgd, adam, lambda p: sgd(p, momentum=0.9), lambda p: optim.Rprop(p, lr=1e-3)):
        assert torch.equal(planned(td.coupled(0.1), make), plainly(make, after_backward=add))


def test_m1_4_the_optimizers_own_weight_decay():
    """SGD and Adam with lr 1e-3 and weight_decay 1e-4: a number is the optimizer's own; for SGD it is M1.3."""
    for cls in (optim.SGD, optim.Adam):
        own = plainly(lambda p, cls=cls: cls(p, lr=1e-3, weight_decay=1e-4))
        assert torch.equal(planned(1e-4, lambda p, cls=cls: cls(p, lr=1e-3)), own)
        problem = Problem()
        groups = td.param_groups(problem.model, 1e-4, rules=td.policies.torch)
        assert [group["weight_decay"] for group in groups] == [1e-4]
    by_gradient = planned(td.coupled(1e-4), lambda p: optim.SGD(p, lr=1e-3), via="hook")
    assert torch.equal(by_gradient, plainly(lambda p: optim.SGD(p, lr=1e-3, weight_decay=1e-4)))


def test_m1_5_decay_that_leaves_the_gradient_alone():
    """w ← w − lr·wd·w, group by group with that group's current lr, on any optimizer."""

    def groups_of(model):
        return [
            {"params": list(model[0].parameters()), "lr": 0.1},
            {"params": list(model[2].parameters()), "lr": 0.01},
        ]

    def train(make, plan_it):
        problem = Problem()
        optimizer = make(groups_of(problem.model))
        scheduler = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        if plan_it:
            plan = td.plan(problem.model, td.decoupled(0.1), rules=td.policies.torch)
            td.attach(optimizer, plan, model=problem.model)
        for _ in range(STEPS):
            optimizer.zero_grad()
            problem.loss().backward()
            grads = [param.grad.clone() for param in problem.model.parameters()]
            if not plan_it:
                with torch.no_grad():
                    for group in optimizer.param_groups:
                        for param in group["params"]:
                            param.mul_(1 - group["lr"] * 0.1)
            optimizer.step()
            scheduler.step()
            assert all(torch.equal(p.grad, g) for p, g in zip(problem.model.parameters(), grads, strict=True))
        return problem.weights()

    for make in (optim.SGD, optim.Adam, optim.RMSprop, lambda g: optim.AdamW(g, weight_decay=0.0)):
        assert torch.equal(train(make, True), train(make, False))


def test_m1_6_the_plain_update_rule():
    """w ← w − lr·dw − wd·w: a fraction wd of each weight per step, whatever the lr."""

    def by_rule(lr):
        problem = Problem()
        for _ in range(STEPS):
            for param in problem.model.parameters():
                param.grad = None
            problem.loss().backward()
            with torch.no_grad():
                for param in problem.model.parameters():
                    param.copy_(param - lr * param.grad - 0.01 * param)
        return problem.weights()

    for lr in (0.1, 0.001):
        found = planned(td.per_step(0.01), lambda p, lr=lr: optim.SGD(p, lr=lr))
        assert torch.allclose(found, by_rule(lr), rtol=0, atol=1e-14)  # the same sum in another order
    with pytest.raises(td.DecayError, match=r"per_step|fraction"):
        td.per_step(1.5)


def test_m1_7_lambda_over_m():
    """Penalty λ/(2m)·Σw² over m rows: wd = λ/m, between 0 and 1."""
    lam, m = 0.7, 32
    textbook = plainly(sgd, penalty=lambda model: lam / (2 * m) * square_sum(model))
    assert torch.allclose(planned(td.coupled(lam / m), sgd), textbook, rtol=0, atol=1e-14)
    assert torch.allclose(plainly(sgd, penalty=lambda w: td.penalty(w, l2=lam / (2 * m))), textbook, rtol=0, atol=1e-14)
    assert 0 < lam / m < 1


def test_m1_8_they_agree_where_they_should():
    """Plain SGD: M1.1 with λ = wd/2, M1.3, M1.4 and M1.5 give the same weights; Adam: not, and the user is told."""
    wd = 0.1

    def ways(make):
        return {
            "M1.1": plainly(make, penalty=lambda model: td.penalty(model, l2=wd / 2)),
            "M1.3": planned(td.coupled(wd), make, via="hook"),
            "M1.4": plainly(lambda p: make(p, weight_decay=wd)),
            "M1.5": planned(td.decoupled(wd), make),
        }

    found = ways(sgd)
    for name, weights in found.items():
        # 20 steps of four sums in other orders, each right to 1e-16 of a weight near 1.
        assert torch.allclose(weights, found["M1.4"], rtol=0, atol=1e-13), name
    found = ways(adam)
    assert not torch.allclose(found["M1.5"], found["M1.4"], rtol=0, atol=1e-4)
    model = Problem().model
    told = td.lower(td.plan(model, td.coupled(wd), rules=()), optim.AdamW(model.parameters()), model=model)
    assert "AdamW's own weight_decay is decoupled" in str(told)
