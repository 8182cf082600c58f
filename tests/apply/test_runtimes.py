"""Controllers at the edges of what they see."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td


def test_stable_does_not_explode_when_gradients_vanish():
    """At 1/√v̄ far above 1/(ηλ) the explicit step would flip and enlarge every weight."""
    model = nn.Linear(4, 3)
    before = model.weight.detach().clone()
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0)
    td.attach(optimizer, td.plan(model, td.forms.stable(1.0)), model=model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-6)
    optimizer.step()
    moved = model.weight.detach() + 0.1  # the update itself is the learning rate
    assert (moved.abs() <= before.abs() + 1e-3).all()
    assert (moved * before >= -1e-3).all()


def test_stable_leaves_weights_alone_while_no_gradient_was_anything_but_0():
    """1/√v̄ is infinite then, in a first step whose loss is masked away, say."""
    model = nn.Linear(4, 3)
    before = model.weight.detach().clone()
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, td.forms.stable(0.01)), model=model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_adaptive_decay_of_weights_that_begin_at_0_begins_with_the_second_step(dtype):
    """‖g‖/‖θ‖ is infinite in the first: LoRA's second matrix, a zero head, a logistic regression."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False, dtype=dtype)
    nn.init.zeros_(model.weight)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, td.forms.adaptive(0.5, beta=0.9)), model=model)
    model.weight.grad = torch.ones_like(model.weight)
    optimizer.step()
    torch.testing.assert_close(model.weight, torch.full((2, 3), -0.1, dtype=dtype))
    model.weight.grad = torch.ones_like(model.weight)
    optimizer.step()
    # m̄ = 0.9·‖g‖/‖θ‖ = 9, so that g + λ·m̄·θ = 1 - 0.5·9·0.1.
    torch.testing.assert_close(model.weight, torch.full((2, 3), -0.1 - 0.1 * 0.55, dtype=dtype))


def test_a_measure_that_is_infinite_does_not_stay_in_the_multiplier():
    """μ takes up every step's excess: after an infinite one no weight would ever be anything but 0."""
    model = nn.ParameterDict({"w": nn.Parameter(torch.full((4,), 3e38))})
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, td.forms.constrained(kappa=1.0, measure="l1"), rules=()), model=model)
    for size in (3e38, 1.0):
        model["w"].data.fill_(size)
        model["w"].grad = torch.zeros_like(model["w"])
        optimizer.step()
    # ρ = 1/4 and the second excess is 4 - 1.
    assert handle.duals == {"w": 0.75}
