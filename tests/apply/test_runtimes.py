"""Controllers at the edges of what they see."""

from __future__ import annotations

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
