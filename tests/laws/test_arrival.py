"""For every form, optimizer and dtype: the share of the pull that arrives in the weights is what the lowering says."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.plans.presets import PRESETS

FORMS = {name: preset.shown for name, preset in PRESETS.items() if preset.shown.site is not td.Site.LOSS}
# Steps large enough for weights in low precision to move by them, so that the runs with and without decay are alike.
OPTIMIZERS = {
    "sgd": lambda params: optim.SGD(params, lr=0.05),
    "momentum": lambda params: optim.SGD(params, lr=0.01, momentum=0.9),
    "nesterov": lambda params: optim.SGD(params, lr=0.01, momentum=0.9, nesterov=True),
    "adam": lambda params: optim.Adam(params, lr=0.01, betas=(0.9, 0.9), eps=1e-3),
    "adamw": lambda params: optim.AdamW(params, lr=0.01, betas=(0.9, 0.9), eps=1e-3, weight_decay=0),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
STEPS = 300
# The most that is still owed when a run ends.
OWED = 2.0**-8


@cache
def run(optimizer: str, form: str | None, dtype: torch.dtype) -> tuple[torch.Tensor, td.LoweringRow | None]:
    """Weights after the steps, and how they were decayed; gradients are noise, the same for all."""
    torch.manual_seed(0)
    model = nn.Linear(64, 64, bias=False)
    model.weight.data.mul_(4)
    made = OPTIMIZERS[optimizer]((model := model.to(dtype)).parameters())
    row = None
    if form is not None:
        row = td.attach(made, td.plan(model, FORMS[form], rules=()), model=model).lowering["weight"]
    noise = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        model.weight.grad = (torch.randn(64, 64, generator=noise) * 0.1).to(dtype)
        made.step()
    return model.weight.detach().double(), row


def arrived(optimizer: str, form: str, dtype: torch.dtype) -> tuple[float, float, td.LoweringRow]:
    """The share of what double precision takes that arrives, what that is of the weights, and what was said."""
    bare = run(optimizer, None, torch.float64)[0]
    full = bare - run(optimizer, form, torch.float64)[0]
    weights, row = run(optimizer, form, dtype)
    moved = run(optimizer, None, dtype)[0] - weights
    assert row is not None
    return float((moved * full).sum() / full.square().sum()), float(full.norm() / bare.norm()), row


def check(optimizer: str, form: str, dtype: torch.dtype) -> None:
    share, size, row = arrived(optimizer, form, dtype)
    if "owed" in row.why or "rounded stochastically" in row.why:
        assert not row.exact
        assert abs(share - 1) < 0.03 + 1.2 * OWED / size, row.why
    elif dtype is torch.float32:
        assert abs(share - 1) < 0.003, row.why
    else:
        assert not row.exact
        assert "low precision rounds it with the gradient" in row.why or "rounded away" in row.why


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_arrives_in_bf16_is_what_the_lowering_says(form, optimizer):
    check(optimizer, form, torch.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_arrives_is_what_the_lowering_says(form, optimizer, dtype):
    check(optimizer, form, DTYPES[dtype])


def test_coupled_decay_of_plain_sgd_arrives_in_bf16():
    """Where it would be lost if it were added to the gradient, which is two hundred times as large, and of one size."""
    model = nn.Linear(64, 64, bias=False).bfloat16()
    model.weight.data.fill_(0.5)
    made = OPTIMIZERS["sgd"](model.parameters())
    handle = td.attach(made, td.plan(model, td.coupled(2e-4), rules=()), model=model)
    assert "owed" in handle.lowering["weight"].why
    for step in range(4000):
        model.weight.grad = torch.full_like(model.weight, 0.1 if step % 2 else -0.1)
        made.step()
    assert model.weight.double().mean().item() == pytest.approx(0.5 * (1 - 0.05 * 2e-4) ** 4000, rel=0.01)
    assert td.verify(made).ok


def test_torchs_own_decay_in_bf16_is_said_to_be_lost():
    """By definition the optimizer's own is what was asked for, and it is nothing here."""
    share, _, row = arrived("adamw", "native", torch.bfloat16)
    assert abs(share) < 0.01
    assert row.route == "native"
    assert not row.exact
    assert "rounded away" in row.why


def test_an_average_moves_beside_low_precision_as_beside_float32():
    """In bf16 a step of a thousandth toward the weights rounds back to where the average was."""
    averages = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = nn.Linear(3, 2, bias=False).to(dtype)
        model.weight.data.fill_(1.0)
        made = optim.SGD(model.parameters(), lr=1.0)
        handle = td.attach(made, td.plan(model, td.forms.toward_average(0.0, beta=0.999), rules=()), model=model)
        for step in range(2000):
            model.weight.grad = torch.full_like(model.weight, 0.0 if step else -1.0)
            made.step()
        averages.append(handle.state_dict()["weight"].float().mean().item())
    assert averages[1:] == pytest.approx([averages[0]] * 2, rel=1e-4)


@pytest.mark.parametrize(
    "form",
    ["norm_control", "hyperball", "projection", "constrained", "projected", "adaptive", "spectral", "by_spectrum"],
)
@pytest.mark.parametrize("size", [1e20, 1e30])
def test_weights_whose_squares_overflow_are_pulled_as_others(form, size):
    """Norms are taken in double precision, so that large weights stay finite and move in proportion."""
    moved = []
    for scale, dtype in ((size, torch.float32), (size, torch.float64)):
        torch.manual_seed(0)
        model = nn.Linear(16, 16, bias=False).to(dtype)
        model.weight.data.copy_(torch.randn(16, 16, generator=torch.Generator().manual_seed(0)) * scale)
        made = optim.SGD(model.parameters(), lr=0.01)
        td.attach(made, td.plan(model, FORMS[form], rules=()), model=model)
        for _ in range(3):
            model.weight.grad = torch.zeros_like(model.weight)
            made.step()
        moved.append(model.weight.detach().double())
    assert torch.isfinite(moved[0]).all()
    assert torch.allclose(moved[0], moved[1], rtol=1e-4, atol=0)


def test_a_monitor_calls_weights_finite_whose_squares_overflow():
    """Their norm is a number, and no alarm."""
    model = nn.Linear(16, 16, bias=False)
    model.weight.data.mul_(1e30)
    made = optim.SGD(model.parameters(), lr=0.01, weight_decay=0.1)
    with td.Monitor(made, every_steps=1, model=model) as monitor:
        model.weight.grad = torch.zeros_like(model.weight)
        made.step()
    assert "not finite" not in [event.kind for event in monitor.history.events]
