"""One plan on an optimizer for each weight, stepped in backward: the numbers of one optimizer over all."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1))


def in_backward(model, make):
    optimizers = {param: make([param]) for param in model.parameters()}

    def step(param):
        optimizers[param].step()
        optimizers[param].zero_grad()

    for param in model.parameters():
        param.register_post_accumulate_grad_hook(step)
    return optimizers


@pytest.mark.parametrize(
    "decay",
    [
        td.decoupled(0.2).replace(schedule=td.schedules.linear(1.0, 0.0, 4)), td.coupled(0.2), td.cautious(0.2),
        td.l1(0.1), td.toward("initial", 0.2), td.forms.constrained(kappa_initial=0.9), td.forms.norm_control(0.2),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [lambda p: optim.AdamW(p, lr=0.1), lambda p: optim.SGD(p, lr=0.1, momentum=0.9)])
def test_optimizers_in_backward_decay_as_one_over_all(decay, make):
    """Bit for bit, norms of each tensor and duals included."""
    one, many = small(), small()
    optimizer = make(one.parameters())
    td.attach(optimizer, decay, model=one)
    handles = td.attach_each(in_backward(many, make), decay, model=many)
    for _ in range(4):
        batch = torch.randn(3, 4)
        one(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        many(batch).square().mean().backward()
    assert all(torch.equal(*pair) for pair in zip(one.parameters(), many.parameters(), strict=True))
    assert [handle.steps(0) for handle in handles] == [4] * 6


@pytest.mark.parametrize("decay", [td.forms.adaptive(0.1), td.forms.stable(0.1)])
def test_norms_over_all_weights_are_refused_and_not_taken_of_a_part(decay):
    """Where one optimizer has all that decay so, they are right."""
    model = small()
    optimizers = in_backward(model, lambda p: optim.AdamW(p, lr=0.1))
    with pytest.raises(td.ApplyError, match="all its weights together, which are on 2 optimizers"):
        td.attach_each(optimizers, decay, model=model)
    weights, rest = [one for one in model.parameters() if one.dim() > 1], [p for p in model.parameters() if p.dim() < 2]
    assert len(td.attach_each([optim.AdamW(weights), optim.AdamW(rest)], decay, model=model)) == 2


def test_all_or_none_and_each_weight_once():
    """What one of them can't carry out leaves the others as they were; a weight on two of them decays twice."""
    model = small()
    first, second = optim.AdamW(model[0].parameters()), optim.AdamW(model[2].parameters())
    td.attach(second, 0.1, model=model)
    with pytest.raises(td.ApplyError, match="attached to this optimizer already"):
        td.attach_each([first, second], td.l1(0.1), model=model)
    td.attach(first, 0.1, model=model).remove()
    with pytest.raises(td.ApplyError, match="optimizers 0 and 1 have a weight"):
        td.attach_each([first, optim.SGD(model.parameters())], 0.1, model=model)
    with pytest.raises(td.ApplyError, match="no optimizers"):
        td.attach_each({}, 0.1, model=model)
