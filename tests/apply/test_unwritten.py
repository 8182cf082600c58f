"""A plan that measured memory before the weights had values is refused at the first step."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td


@pytest.mark.parametrize("when", ["before", "after", "loaded"])
def test_values_that_come_after_the_plan_are_refused(when):
    """In one process too; not where the plan came after them, or what it measured was loaded."""
    began = nn.Linear(3, 2)
    model = nn.Linear(3, 2, device="meta").to_empty(device="cpu")
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    if when == "before":
        model.load_state_dict(began.state_dict())
    handle = td.attach(optimizer, td.plan(model, td.toward("initial", 0.1), rules=()), model=model)
    if when != "before":
        model.load_state_dict(began.state_dict())
    if when == "loaded":
        handle.load_state_dict({name: param.detach() for name, param in began.named_parameters()})
    model(torch.ones(3)).sum().backward()
    if when == "after":
        with pytest.raises(td.ApplyError, match='"bias", "weight" had no values yet when the plan measured them'):
            optimizer.step()
        assert torch.equal(model.weight, began.weight)
    else:
        optimizer.step()
