"""For plain SGD the sites agree; for Adam they do not, and the plan and its lowering say so."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from this_torch import needs_adams_switch

WD, LR, STEPS = 0.3, 0.1, 50


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    return model, torch.randn(16, 4).double(), torch.randn(16, 2).double()


def train(make, *, penalty=None, by_hand=False, decay=None, via="auto", wd=0.0):
    """The weights after some steps: a penalty in the loss, decay by hand, by a plan, or the optimizer's own."""
    model, x, y = setup()
    optimizer = make(model.parameters(), lr=LR, weight_decay=wd)
    handle = td.attach(optimizer, td.plan(model, decay, rules=()), model=model, via=via) if decay else None
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        if penalty:
            loss = loss + penalty(model)
        if handle:
            loss = loss + handle.penalty(model)
        loss.backward()
        if by_hand:
            for param in model.parameters():
                param.grad.add_(param.detach(), alpha=WD)
        optimizer.step()
    return torch.cat([param.detach().flatten() for param in model.parameters()])


WAYS = {
    "λΣw² in the loss, λ = wd/2": {"penalty": lambda model: sum(WD / 2 * p.square().sum() for p in model.parameters())},
    "td.penalty": {"penalty": lambda model: td.penalty(model, l2=WD / 2)},
    "td.penalized": {"decay": td.penalized(WD)},
    "grad += wd·w by hand": {"by_hand": True},
    "td.coupled": {"decay": td.coupled(WD)},
    "td.coupled by hook": {"decay": td.coupled(WD), "via": "hook"},
    "the optimizer's own": {"wd": WD},
    "td.native": {"decay": td.native(WD)},
    "td.decoupled": {"decay": td.decoupled(WD)},
}


def spread(make, ways):
    found = torch.stack([train(make, **WAYS[way]) for way in ways])
    return (found - found[0]).abs().max().item()


def test_for_plain_sgd_all_sites_give_the_same_weights():
    """Loss, gradient and before the step are one formula, w − lr·g − lr·wd·w, summed in another order.

    Weights are below 1 and each of 50 steps rounds at 1e-16; a contracting map does not amplify it: 1e-12 is ample.
    """
    assert spread(optim.SGD, WAYS) < 1e-12


def test_a_penalty_without_the_half_is_seen():
    """The seeded fault: λ = wd in place of wd/2 doubles the decay."""
    wrong = train(optim.SGD, penalty=lambda model: td.penalty(model, l2=WD))
    assert (wrong - train(optim.SGD, wd=WD)).abs().max() > 1e-2


def test_for_adam_decoupled_decay_is_another_method():
    """Loss, gradient and native agree with each other; decoupled does not, by far more than rounding."""
    coupled = [way for way in WAYS if way != "td.decoupled"]
    # Adam divides by √v̂: where a gradient is tiny, the last digits of the sum are magnified.
    assert spread(optim.Adam, coupled) < 1e-8
    assert (train(optim.Adam, wd=WD) - train(optim.Adam, decay=td.decoupled(WD))).abs().max() > 1e-2


@needs_adams_switch
def test_the_user_is_told_which_of_the_two_runs():
    """The equation of each row, and a lowering that says when the optimizer's own decay is the other kind."""
    model, _, _ = setup()
    coupled, decoupled = (td.plan(model, form(WD), rules=()) for form in (td.coupled, td.decoupled))
    assert "g ← g + λ·θ" in coupled.explain("0.weight")
    assert "θ ← θ − η·λ·θ, then θ ← θ − u" in decoupled.explain("0.weight")
    adam = optim.Adam(model.parameters(), lr=LR)
    assert "decoupled_weight_decay=True" in td.lower(decoupled, adam, model=model)["0.weight"].why
    adamw = optim.AdamW(model.parameters(), lr=LR)
    assert "AdamW's own weight_decay is decoupled" in td.lower(coupled, adamw, model=model)["0.weight"].why


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_with_momentum_the_sites_part(momentum):
    """Coupled decay goes through the momentum buffer, decoupled does not: the law is for plain SGD only."""

    def make(params, **options):
        return optim.SGD(params, momentum=momentum, **options)

    apart = (train(make, wd=WD) - train(make, decay=td.decoupled(WD))).abs().max().item()
    assert (apart < 1e-12) is (momentum == 0.0)
