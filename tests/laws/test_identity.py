"""λ = 0 is no decay at all, and a step at learning rate 0 moves nothing: in every form."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from plans.examples import as_hard_as, everywhere
from torchdecay.plans.presets import PRESETS

RAMP = td.schedules.linear(1.0, 0.5, 10)
ONES = {"0.weight": torch.ones(5, 4).double(), "2.weight": torch.ones(2, 5).double()}
# What has no λ that could be 0.
BOUNDS = {
    "constrained": lambda wd: td.forms.constrained(kappa_initial=0.5),
    "constrained after a warm-up": lambda wd: td.forms.constrained(warmup_steps=1),
}
FORMS = {name: functools.partial(as_hard_as, name) for name in PRESETS if name not in BOUNDS} | {
    "coupled scheduled": lambda wd: td.coupled(wd, schedule=RAMP),
    "decoupled scheduled": lambda wd: td.decoupled(wd, schedule=RAMP),
    "decoupled following lr": lambda wd: td.decoupled(wd, schedule=td.schedules.follow_lr()),
    "cautious sparing": lambda wd: td.cautious(wd, zero_update="spare"),
    "by small spectra": lambda wd: td.forms.by_spectrum(wd, min_values=2, every_steps=2),
    "toward tensors": lambda wd: td.toward(ONES, wd),
    "coupled toward": lambda wd: td.coupled(wd).replace(reference=td.toward(ONES, wd).reference),
    "masked": lambda wd: td.decoupled(wd, mask=td.spare_rows(0)),
}
OPTIMIZERS = {
    "momentum": (optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "Adam": (optim.Adam, {}),
    "RMSprop": (optim.RMSprop, {}),
    "fused AdamW": (optim.AdamW, {"weight_decay": 0.0, "fused": True}),
}


def setup(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    cls, options = OPTIMIZERS[name]
    return model, cls(model.parameters(), lr=0.1, **options), torch.randn(8, 4).double()


def step(model, optimizer, x, handle=None):
    optimizer.zero_grad()
    loss = model(x).square().mean()
    if handle:
        loss = loss + handle.penalty(model)
    loss.backward()
    optimizer.step()


def weights(model):
    return [param.detach().clone() for param in model.parameters()]


def same(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def cases(forms):
    made = []
    for name in OPTIMIZERS:
        # `stable` reads second moments, and refuses an optimizer that it does not know them of.
        made += [(form, name) for form in forms if (form, name) != ("stable", "RMSprop")]
    return made


@pytest.mark.parametrize("via", ["auto", "hook"])
@pytest.mark.parametrize(("form", "name"), cases(FORMS))
def test_lambda_0_is_training_without_decay_bit_for_bit(form, name, via):
    """And λ = 0.1 is not: the seeded fault that shows the comparison is alive."""

    def run(decay):
        model, optimizer, x = setup(name)
        plan = td.plan(model, decay, rules=everywhere(decay)) if decay else None
        handle = td.attach(optimizer, plan, model=model, via=via) if plan else None
        for _ in range(4):
            step(model, optimizer, x, handle)
        return weights(model)

    plain = run(None)
    assert same(run(FORMS[form](0.0)), plain)
    assert not same(run(FORMS[form](0.1)), plain)


@pytest.mark.parametrize("via", ["auto", "hook"])
@pytest.mark.parametrize(("form", "name"), cases([*FORMS, *BOUNDS]))
def test_learning_rate_0_moves_no_weight_and_no_counter(form, name, via):
    """Whatever the momentum: torch's checkpointing takes such a step, and a warm-up begins with one."""
    model, optimizer, x = setup(name)
    decay = (FORMS | BOUNDS)[form](0.1)
    handle = td.attach(optimizer, td.plan(model, decay, rules=everywhere(decay)), model=model, via=via)
    for lr in (0.0, 0.1, 0.1, 0.0):
        optimizer.param_groups[0]["lr"] = lr
        before = weights(model), repr(optimizer.state_dict()["torchdecay"])
        step(model, optimizer, x, handle)
        after = weights(model), repr(optimizer.state_dict()["torchdecay"])
        assert same(before[0], after[0]) is (lr == 0.0)
        assert (before[1] == after[1]) is (lr == 0.0)


def test_a_step_at_learning_rate_0_without_gradients_moves_nothing_under_rprop():
    """Rprop's own step sizes are never 0; torch's checkpointing takes such a step to make its state."""
    weight = torch.nn.Parameter(torch.ones(3))
    model, optimizer = torch.nn.ParameterDict({"weight": weight}), torch.optim.Rprop([weight], lr=0.1)
    td.attach(optimizer, td.plan(model, td.coupled(0.1), rules=()), model=model)
    optimizer.param_groups[0]["lr"] = 0.0
    weight.grad = torch.zeros(3)
    optimizer.step()
    assert torch.equal(weight, torch.ones(3))


@pytest.mark.parametrize("form", ["native", "coupled", "coupled scheduled"])
@pytest.mark.parametrize("name", ["momentum", "Adam"])
def test_at_learning_rate_0_momentum_sees_what_it_sees_natively(form, name):
    """A warm-up from 0: the optimizer's own decay enters its buffers at the first step, and so does the hook's."""

    def run(via):
        model, optimizer, x = setup(name)
        td.attach(optimizer, td.plan(model, FORMS[form](0.1), rules=()), model=model, via=via)
        for lr in (0.0, 0.05, 0.1, 0.0, 0.1):
            optimizer.param_groups[0]["lr"] = lr
            step(model, optimizer, x)
        return weights(model)

    assert same(run("auto"), run("hook"))
