"""In bf16 and fp16 no decay is rounded away: many small pulls add up to what float32 gives."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn, optim

import torchdecay as td

pytestmark = pytest.mark.long
SIZE = 10_000
LR = 1e-3
# What a thousand steps do in float32, within one percent: the debt that is still owed at the end is at most 2⁻⁸, and
# a debt that is paid late is compounded late.
WITHIN = 0.01

SHRINKS = {
    "decoupled": lambda: td.decoupled(0.3),
    "independent": lambda: td.independent(3e-4, max_lr=LR),
    "per_step": lambda: td.per_step(3e-4),
    "proximal": lambda: td.forms.proximal(3e-4, max_lr=LR),
}
PULLS = {
    "toward": lambda: td.toward("target", 0.3),
    "l1": lambda: td.l1(0.05),
    "huber": lambda: td.forms.huber(0.3, delta=0.5),
    "cautious": lambda: td.cautious(0.3),
}


class Bag(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(SIZE, generator=generator).to(dtype))


def target():
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(1)).bfloat16()


def drift(decay, dtype, steps, *, optimizer=lambda p: optim.SGD(p, lr=LR), save_at=None):
    """Weights before and after `steps` steps without a gradient, in float32; saved and resumed once if asked."""
    torch.manual_seed(5)
    model = Bag(dtype)
    start = model.weight.detach().float().clone()

    def begin():
        made = optimizer(model.parameters())
        bind = {"target": {"weight": target()}}
        return made, td.attach(made, td.plan(model, decay, rules=()), model=model, bind=bind)

    opt, handle = begin()
    model.weight.grad = torch.zeros_like(model.weight)
    for step in range(steps):
        if step == save_at:
            saved = opt.state_dict()
            handle.remove()
            opt, handle = begin()
            opt.load_state_dict(saved)
        opt.step()
    return start, model.weight.detach().float()


@cache
def in_float32(form, steps):
    """What the runs of every low precision are compared with."""
    return drift((SHRINKS | PULLS)[form](), torch.float32, steps)


@pytest.mark.parametrize(
    ("dtype", "steps"),
    [
        pytest.param(torch.bfloat16, 1_000, id="bf16-1000"),
        pytest.param(torch.bfloat16, 10_000, id="bf16-10000"),
        pytest.param(torch.float16, 1_000, id="fp16-1000"),
        pytest.param(torch.float16, 10_000, id="fp16-10000", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("form", SHRINKS)
def test_a_shrink_keeps_the_norm_of_float32(form, dtype, steps):
    _, low = drift(SHRINKS[form](), dtype, steps)
    _, exact = in_float32(form, steps)
    assert abs(low.norm() / exact.norm() - 1) < WITHIN


@pytest.mark.parametrize(
    ("form", "steps"),
    [(form, 1_000) for form in PULLS]
    # Huber pays at nearly every step.
    + [pytest.param(form, 10_000, marks=[pytest.mark.slow] if form == "huber" else []) for form in PULLS],
)
def test_a_pull_moves_bf16_weights_as_far_as_float32(form, steps):
    start, low = drift(PULLS[form](), torch.bfloat16, steps)
    exact_start, exact = in_float32(form, steps)
    moved, expected = (low - start).abs().mean(), (exact - exact_start).abs().mean()
    assert abs(moved / expected - 1) < WITHIN


@pytest.mark.parametrize("implementation", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
def test_torch_itself_loses_the_decay(implementation):
    """The fault that these laws are about: in bf16 AdamW's own decay does nothing at all."""
    model = Bag(torch.bfloat16)
    before = model.weight.detach().clone()
    optimizer = optim.AdamW(model.parameters(), lr=LR, weight_decay=0.3, **implementation)
    model.weight.grad = torch.zeros_like(model.weight)
    for _ in range(200):
        optimizer.step()
    assert torch.equal(model.weight, before)


def test_adamw_in_bf16_decays_when_a_plan_is_attached():
    start, low = drift(td.decoupled(0.3), torch.bfloat16, 1_000, optimizer=lambda p: optim.AdamW(p, lr=LR, fused=True))
    assert abs(low.norm() / start.norm() - (1 - LR * 0.3) ** 1_000) < WITHIN


@pytest.mark.parametrize("form", ["l1", "toward", "cautious"])
def test_a_resumed_run_rounds_like_one_that_never_stopped(form):
    _, straight = drift(PULLS[form](), torch.bfloat16, 300)
    _, resumed = drift(PULLS[form](), torch.bfloat16, 300, save_at=137)
    assert torch.equal(straight, resumed)


def test_replicas_round_alike():
    """Two processes with the same weights draw the same numbers, whatever else they drew before."""
    _, first = drift(td.decoupled(0.3), torch.bfloat16, 300)
    torch.rand(17)
    _, second = drift(td.decoupled(0.3), torch.bfloat16, 300)
    assert torch.equal(first, second)


def test_float32_masters_are_left_alone():
    """Weights in float32 take the optimizer's own decay, whatever autocast does."""
    model = Bag(torch.float32)
    optimizer = optim.AdamW(model.parameters(), lr=LR)
    plan = td.plan(model, td.decoupled(0.3), rules=())
    assert td.lower(plan, optimizer, model=model)["weight"].route == "native"
    low = Bag(torch.bfloat16)
    lowered = td.lower(td.plan(low, td.decoupled(0.3), rules=()), optim.AdamW(low.parameters(), lr=LR), model=low)
    assert lowered["weight"].route == "hook"
    assert "stochastic rounding" in lowered["weight"].why
