"""independent(λ·lr_max) is decoupled(λ), along any learning rate schedule."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

import torchdecay as td

PEAK, WD = 0.3, 0.7


def run(decay, rates, cls, via, *, max_lr=None):
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    optimizer = cls(model.parameters(), lr=PEAK, weight_decay=0.0)
    plan = td.plan(model, decay if max_lr is None else decay.replace(max_lr=max_lr), rules=())
    td.attach(optimizer, plan, model=model, via=via)
    for step, rate in enumerate(rates):
        optimizer.param_groups[0]["lr"] = rate
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step)).double()
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return torch.cat([param.detach().flatten() for param in model.parameters()])


@settings(max_examples=25)
@given(st.lists(st.floats(0.0, PEAK), min_size=1, max_size=8))
@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("via", ["auto", "hook"])
def test_independent_times_the_peak_is_decoupled(cls, via, rates):
    """(lr/lr_max)·(λ·lr_max) = lr·λ: the products round in another order, 1e-16 each, on weights near 1."""
    decoupled = run(td.decoupled(WD), rates, cls, via)
    independent = run(td.independent(WD * PEAK), rates, cls, via, max_lr=PEAK)
    # Adam divides by √v̂, which magnifies a last digit where a gradient is tiny.
    assert torch.allclose(independent, decoupled, rtol=0, atol=1e-13 if cls is optim.SGD else 1e-9)


@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW], ids=lambda cls: cls.__name__)
def test_with_another_peak_they_part(cls):
    """The seeded fault: a peak that is 10 % off."""
    rates = [PEAK * (1 - math.cos(t / 4)) / 2 for t in range(12)]
    off = run(td.independent(WD * PEAK), rates, cls, "auto", max_lr=PEAK * 1.1)
    assert not torch.allclose(off, run(td.decoupled(WD), rates, cls, "auto"), rtol=0, atol=1e-3)
