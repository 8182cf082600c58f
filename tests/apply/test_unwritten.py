"""Weights that get other values between attach and the first step."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td


@pytest.mark.parametrize("decay", [td.toward("initial", 0.1), td.forms.norm_control(0.1)])
def test_a_tensor_of_values_may_be_given_others_after_attach(decay):
    """In one process nothing tells it from memory without values, and it is no fault: "initial" is what attach saw."""
    model = nn.ParameterDict({"w": nn.Parameter(torch.ones(3, 2))})
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, decay, rules=()), model=model)
    with torch.no_grad():
        model["w"].fill_(2.0)
    model["w"].grad = torch.zeros(3, 2)
    optimizer.step()
    assert (model["w"] < 2.0).all()
