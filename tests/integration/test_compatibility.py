"""The table of other optimizers in the docs is what a step of each shows."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import torchdecay as td

pytestmark = pytest.mark.peers
PAGE = Path(__file__).parents[2] / "docs" / "integrations" / "others.md"
KNOWN = {
    "torch.optim.Muon": ("torch.optim", "Muon", {}),
    "torchao AdamW8bit": ("torchao.optim", "AdamW8bit", {}),
    "bitsandbytes AdamW8bit": ("bitsandbytes.optim", "AdamW8bit", {"min_8bit_size": 16}),
    "schedulefree AdamWScheduleFree": ("schedulefree", "AdamWScheduleFree", {}),
    "pytorch_optimizer Shampoo": ("pytorch_optimizer", "Shampoo", {}),
    "pytorch_optimizer ScalableShampoo": ("pytorch_optimizer", "ScalableShampoo", {}),
    "pytorch_optimizer SOAP": ("pytorch_optimizer", "SOAP", {}),
    "lion_pytorch Lion": ("lion_pytorch", "Lion", {}),
}


def built(name, seed=0):
    """A model and its optimizer."""
    module, cls, options = KNOWN[name]
    made = pytest.importorskip(module, reason=f"{module} is not installed", exc_type=Exception)
    torch.manual_seed(seed)
    model = nn.Linear(64, 64, bias=False)
    optimizer = getattr(made, cls)(model.parameters(), lr=1e-2, weight_decay=0.0, **options)
    if hasattr(optimizer, "train"):
        optimizer.train()
    return model, optimizer


def train(model, optimizer, steps):
    for step in steps:
        optimizer.zero_grad()
        model(torch.randn(8, 64, generator=torch.Generator().manual_seed(step))).square().mean().backward()
        optimizer.step()


def row(name, decay):
    """How the decay is carried out, and whether a step takes what it should."""
    model, optimizer = built(name)
    try:
        handle = td.attach(optimizer, decay, model=model)
    except td.TorchdecayError:
        return "refused"
    try:
        train(model, optimizer, range(3))
        return f"{handle.lowering['weight'].route}, {'ok' if td.verify(optimizer, model=model).ok else 'differs'}"
    except Exception as error:
        return f"fails: {type(error).__name__}"


@pytest.mark.parametrize("name", KNOWN)
def test_the_page_says_what_a_step_shows(name):
    """For decoupled decay and for L1."""
    found = [row(name, decay) for decay in (td.decoupled(0.1), td.l1(0.1))]
    told = re.search(rf"^\| {re.escape(name)} \| (.*?) \| (.*?) \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert told is not None and [told[1], told[2]] == found


@pytest.mark.parametrize("form", [td.decoupled, functools.partial(td.toward, "initial")], ids=["decoupled", "toward"])
@pytest.mark.parametrize("name", KNOWN)
def test_a_run_goes_on_from_a_file_bit_for_bit(name, form, tmp_path):
    """With a decay that counts its steps; what they keep in a way of their own goes through the file with it."""
    form = td.coupled if "schedulefree" in name else form
    decay = form(0.5, schedule=td.schedules.linear(1.0, 0.0, 8))
    (model, optimizer), (again, resumed) = built(name), built(name, seed=1)
    td.attach(optimizer, decay, model=model, save_references=True)
    train(model, optimizer, range(3))
    torch.save((model.state_dict(), optimizer.state_dict()), tmp_path / "half.pt")
    train(model, optimizer, range(3, 6))
    handle = td.attach(resumed, decay, model=again)
    for one, state in zip((again, resumed), torch.load(tmp_path / "half.pt", weights_only=False), strict=True):
        one.load_state_dict(state)
    train(again, resumed, range(3, 6))
    assert torch.equal(model.weight, again.weight) and handle.steps(0) == 6
