"""Between two steps a form keeps at most a number for each tensor, unless a reference or the update is its idea."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.plans.presets import PRESETS

COPIES = {"toward": 1, "toward_average": 1, "projected": 1, "hyperball": 1, "relative_update": 1}
FORMS = {name: one.shown for name, one in PRESETS.items() if one.shown.site not in (td.Site.NATIVE, td.Site.LOSS)}


def elements_alive() -> int:
    """Elements of all tensors that were made since `gc.freeze`."""
    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes() // thing.element_size()
    return sum(storages.values())


@pytest.fixture
def _only_what_is_new():
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_only_what_is_new")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cls", [optim.AdamW, optim.SGD], ids=lambda cls: cls.__name__)
def test_a_form_keeps_at_most_a_number_for_each_tensor(form, cls):
    """What is alive while the plan is attached, less what is alive once it is removed."""
    torch.manual_seed(0)
    model = nn.Linear(64, 64, bias=False)
    size = model.weight.numel()
    optimizer = cls(model.parameters(), lr=0.01, weight_decay=0.0)
    handle = td.attach(optimizer, td.plan(model, FORMS[form]), model=model, via="hook")
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 64)).square().mean().backward()
        optimizer.step()
    attached = elements_alive()
    handle.remove()
    del handle
    gc.collect()
    kept = attached - elements_alive()
    copies = COPIES.get(form, 0) * size
    assert copies <= kept <= copies + 4
