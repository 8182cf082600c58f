"""A decay by hook and the optimizer's own weight_decay give the same bits."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from this_torch import Muon
from torch_optimizers import TORCH
from torchdecay.optimizers.cards import torch_class, torch_names

# Adafactor sizes its step by RMS(p) before the decay, a hook after it: no law of equal bits holds there.
OPTIMIZERS = {name: made for name, made in TORCH.items() if name != "Adafactor"}
FUSED = (optim.SGD, optim.Adagrad, optim.Adam, optim.AdamW)
IMPLEMENTATIONS = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
WD = 0.3


def cases():
    for name, implementation in itertools.product(OPTIMIZERS, IMPLEMENTATIONS):
        cls, _ = OPTIMIZERS[name]
        if implementation == "fused" and cls not in FUSED:
            continue
        if cls is Muon and implementation != "loop":
            continue
        yield name, implementation


def build(name, implementation, dtype, maximize):
    cls, options = OPTIMIZERS[name]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7, bias=False), nn.Tanh(), nn.Linear(7, 3, bias=False)).to(dtype)
    extra = {} if cls is Muon else dict(IMPLEMENTATIONS[implementation])
    if maximize:
        extra["maximize"] = True
    return model, lambda wd: cls(model.parameters(), weight_decay=wd, **options, **extra)


def run(model, optimizer, *, closure, steps=5):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(6, 5, generator=generator).to(next(model.parameters()))

        def evaluate(x=x):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        if closure:
            optimizer.step(evaluate)
        else:
            evaluate()
            optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("closure", [False, True], ids=["plain", "closure"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("name", "implementation"), list(cases()))
@pytest.mark.parametrize("maximize", [False, True], ids=["minimize", "maximize"])
def test_hook_gives_the_same_bits_as_native(name, implementation, dtype, closure, maximize):
    if maximize and (OPTIMIZERS[name][0] is Muon):
        pytest.skip("Muon has no maximize")
    model, make = build(name, implementation, dtype, maximize)
    native = run(model, make(WD), closure=closure)
    model, make = build(name, implementation, dtype, maximize)
    optimizer = make(0.0)
    td.attach(optimizer, td.plan(model, td.native(WD)), model=model, via="hook")
    hooked = run(model, optimizer, closure=closure)
    assert all(torch.equal(a, b) for a, b in zip(native, hooked, strict=True))


@pytest.mark.parametrize(("name", "implementation"), list(cases()))
def test_a_decay_that_is_a_little_off_is_seen(name, implementation):
    """The seeded fault of the law above: one part in a thousand more decay changes the bits."""
    model, make = build(name, implementation, torch.float64, False)
    native = run(model, make(WD), closure=False)
    model, make = build(name, implementation, torch.float64, False)
    optimizer = make(0.0)
    td.attach(optimizer, td.plan(model, td.native(WD * 1.001)), model=model, via="hook")
    hooked = run(model, optimizer, closure=False)
    assert not all(torch.equal(a, b) for a, b in zip(native, hooked, strict=True))


def test_every_optimizer_of_torch_that_decays_is_in_this_law():
    """A new torch optimizer with a weight_decay must be added to the table and to this law."""
    tested = {cls for cls, _ in OPTIMIZERS.values()} | {optim.Adafactor}
    known = {torch_class(name) or Muon for name in torch_names(decaying=True)}
    assert tested == known
    import inspect

    decaying = {
        cls
        for cls in vars(optim).values()
        if inspect.isclass(cls)
        and issubclass(cls, optim.Optimizer)
        and "weight_decay" in inspect.signature(cls.__init__).parameters
    }
    assert decaying | {Muon} == known
