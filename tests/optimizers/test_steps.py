"""How large a proximal step is, for each optimizer."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

from torchdecay.optimizers.elementwise import Elementwise
from torchdecay.optimizers.steps import is_matched, step_size
from torchdecay.plans.regularizers import L1, GroupLasso, PNorm

MATCHED = {
    "SGD": (optim.SGD, {}),
    "momentum": (optim.SGD, {"momentum": 0.9}),
    "dampening": (optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    "nesterov": (optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "Adam": (optim.Adam, {}),
    "amsgrad": (optim.Adam, {"amsgrad": True}),
    "AdamW": (optim.AdamW, {"weight_decay": 0.0}),
    "NAdam": (optim.NAdam, {}),
    "RAdam": (optim.RAdam, {}),
}


@pytest.mark.parametrize("name", MATCHED)
def test_the_step_size_is_what_a_gradient_that_stays_moves_a_weight_by(name):
    """Run the optimizer with a constant gradient until it settles, and compare its update with lr·s·g."""
    cls, options = MATCHED[name]
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    gradient = torch.tensor([2.0, -0.5, 0.125], dtype=torch.float64)
    optimizer = cls([weight], lr=0.01, **options)
    group = optimizer.param_groups[0]
    assert is_matched(optimizer, group, weight, L1())
    for _ in range(3000):
        before = weight.detach().clone()
        weight.grad = gradient.clone()
        optimizer.step()
    size = step_size(optimizer, group, weight, L1())
    size = size.whole() if isinstance(size, Elementwise) else size
    moved = (before - weight.detach()) / group["lr"]
    # Momentum forgets its start like 0.9^t; what is left is the rounding of a difference of weights near 30.
    assert torch.allclose(moved, size * gradient, rtol=1e-10)
    assert not torch.allclose(moved, 1.0001 * size * gradient, rtol=1e-10)  # the seeded fault


@pytest.mark.parametrize("cls", [optim.Adagrad, optim.RMSprop, optim.Adamax, optim.Rprop], ids=lambda cls: cls.__name__)
def test_other_optimizers_are_not_matched_and_get_1(cls):
    """`lower` says that their optimum differs."""
    weight = nn.Parameter(torch.ones(2))
    optimizer = cls([weight], lr=0.1)
    assert not is_matched(optimizer, optimizer.param_groups[0], weight, L1())
    assert step_size(optimizer, optimizer.param_groups[0], weight, L1()) == 1.0


def test_a_subclass_with_its_own_step_is_not_matched():
    """It need not step as its parent does."""

    class Own(optim.Adam):
        def step(self, closure=None):
            return super().step(closure)

    weight = nn.Parameter(torch.ones(2))
    optimizer = Own([weight])
    assert not is_matched(optimizer, optimizer.param_groups[0], weight, L1())


def test_adam_is_not_matched_for_complex_weights_and_sgd_is():
    """Adam scales real and imaginary parts apart, and a threshold is about the modulus."""
    weight = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    for cls, matched in ((optim.Adam, False), (optim.SGD, True)):
        optimizer = cls([weight], lr=0.1)
        assert is_matched(optimizer, optimizer.param_groups[0], weight, L1()) is matched


def test_slices_with_one_threshold_have_no_size_where_elements_have_their_own():
    """And a step by a power goes by none at all."""
    weight = nn.Parameter(torch.ones(2, 3))
    for cls, sized in ((optim.SGD, True), (optim.Adam, False)):
        optimizer = cls([weight], lr=0.1)
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        group = optimizer.param_groups[0]
        assert is_matched(optimizer, group, weight, GroupLasso()) is sized
        assert not is_matched(optimizer, group, weight, PNorm(1.0))
        assert step_size(optimizer, group, weight, GroupLasso()) == 1.0
