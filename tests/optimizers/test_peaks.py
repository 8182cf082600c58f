"""η_max is each group's own peak, wherever it is written."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

import torchdecay as td
from torchdecay.optimizers.peaks import peak_of

WD = 0.25
DECAY = td.independent(WD)


def optimizer_of(cls=optim.SGD, lr=0.1, **options):
    model = nn.Linear(3, 2, bias=False).double()
    return model, cls(model.parameters(), lr=lr, **options)


def retention(optimizer, model):
    """What a step with a zero gradient leaves of the weights."""
    before = model.weight.detach().clone()
    model.weight.grad = torch.zeros_like(model.weight)
    optimizer.step()
    return (model.weight.detach() / before).mean().item()


@pytest.mark.parametrize(
    ("decay", "group", "max_lrs", "peak"),
    [
        (td.independent(WD, max_lr=7.0), {"max_lr": 6.0, "initial_lr": 5.0, "lr": 4.0}, None, 7.0),
        (DECAY, {"max_lr": 6.0, "initial_lr": 5.0, "lr": 4.0}, [3.0], 6.0),
        (DECAY, {"initial_lr": 5.0, "lr": 4.0}, [2.0, 3.0], 3.0),
        (DECAY, {"initial_lr": 5.0, "lr": 4.0}, None, 5.0),
        (DECAY, {"lr": torch.tensor(4.0)}, None, 4.0),
    ],
)
def test_the_order_of_the_places_where_a_peak_may_be_written(decay, group, max_lrs, peak):
    """The decay's own, the group's max_lr, the scheduler's max_lrs, initial_lr, lr: the first that is there."""

    class Scheduler:
        pass

    scheduler = Scheduler()
    if max_lrs is not None:
        scheduler.max_lrs = max_lrs
    assert peak_of(decay, group, 1, scheduler) == peak


def test_a_peak_of_0_is_refused_with_the_place_it_came_from():
    """Dividing by it would make every weight NaN."""
    with pytest.raises(td.ApplyError, match=r"initial_lr of the group, is 0[\s\S]*max_lr="):
        peak_of(DECAY, {"initial_lr": 0.0, "lr": 0.1}, 0)


@pytest.mark.parametrize("via", ["auto", "hook"])
@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW], ids=lambda cls: cls.__name__)
def test_one_cycle_is_measured_by_its_peak_and_not_by_initial_lr(cls, via):
    """OneCycleLR sets initial_lr = peak/25: by it, decay would be 25 times too strong."""
    model, optimizer = optimizer_of(cls, weight_decay=0.0)
    scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=10, cycle_momentum=False)
    td.attach(optimizer, td.plan(model, DECAY), model=model, via=via)
    assert optimizer.param_groups[0]["initial_lr"] == 0.5 / 25
    for _ in range(9):
        lr = optimizer.param_groups[0]["lr"]
        assert retention(optimizer, model) == pytest.approx(1 - lr / 0.5 * WD, rel=1e-14)
        scheduler.step()


def test_a_scheduler_that_is_made_after_attach_counts():
    """The peak is looked up at the first step, not at attach."""
    model, optimizer = optimizer_of(optim.AdamW, lr=0.02, weight_decay=0.0)
    td.attach(optimizer, td.plan(model, DECAY), model=model)
    lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=10)
    lr = optimizer.param_groups[0]["lr"]
    assert retention(optimizer, model) == pytest.approx(1 - lr / 0.5 * WD, rel=1e-14)


def test_cyclic_lr_is_measured_by_the_scheduler_that_is_passed_in():
    """CyclicLR keeps its peaks on itself; initial_lr is the bottom of the cycle."""
    model, optimizer = optimizer_of()
    scheduler = lr_scheduler.CyclicLR(optimizer, base_lr=0.1, max_lr=0.4, step_size_up=3, cycle_momentum=False)
    td.attach(optimizer, td.plan(model, DECAY), model=model, scheduler=scheduler)
    for _ in range(7):
        lr = optimizer.param_groups[0]["lr"]
        assert retention(optimizer, model) == pytest.approx(1 - lr / 0.4 * WD, rel=1e-14)
        scheduler.step()
    assert optimizer.state_dict()["torchdecay"]["groups"][0]["max_lr"] == 0.4


@pytest.mark.parametrize("via", ["auto", "hook"])
@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW], ids=lambda cls: cls.__name__)
def test_a_warm_up_from_0_is_measured_by_the_base_learning_rate(cls, via):
    """At the first step the learning rate is 0; nothing moves, nothing is divided by 0, and it does not count."""
    model, optimizer = optimizer_of(cls, lr=0.4, weight_decay=0.0)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: min(step / 4, 1))
    td.attach(optimizer, td.plan(model, DECAY), model=model, via=via)
    for step in range(6):
        assert retention(optimizer, model) == pytest.approx(1 - min(step / 4, 1) * WD, rel=1e-14)
        scheduler.step()
    assert optimizer.state_dict()["torchdecay"]["groups"][0] == {"steps": 5, "max_lr": 0.4}


def test_each_group_has_its_own_peak():
    """One global peak would be wrong by the ratio of the learning rates."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)).double()
    plan = td.plan(model, DECAY, rules=[td.rule("0.*", lr=0.4), td.rule("1.*", lr=0.1)])
    optimizer = optim.SGD(plan.param_groups(model), lr=1.0)
    td.attach(optimizer, plan)
    before = [param.detach().clone() for param in model.parameters()]
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    optimizer.step()
    for param, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(param, old * (1 - WD))


def test_rows_of_one_group_keep_their_own_max_lr():
    """A peak given with the decay belongs to that decay alone, also where rows share a group."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)).double()
    rules = [("0.*", td.independent(WD, max_lr=0.5)), ("1.*", td.independent(WD, max_lr=1.0))]
    optimizer = optim.SGD(model.parameters(), lr=0.25)
    td.attach(optimizer, td.plan(model, None, rules=rules), model=model)
    before = [param.detach().clone() for param in model.parameters()]
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    optimizer.step()
    assert torch.equal(model[0].weight, before[0] * (1 - 0.5 * WD))
    assert torch.equal(model[1].weight, before[1] * (1 - 0.25 * WD))


def test_update_may_give_another_peak():
    """The peak that was found before does not win over the one that the new plan gives."""
    model, optimizer = optimizer_of(lr=0.5)
    handle = td.attach(optimizer, td.plan(model, DECAY), model=model)
    assert retention(optimizer, model) == pytest.approx(1 - WD, rel=1e-14)
    handle.update(td.plan(model, td.independent(WD, max_lr=2.0)))
    assert retention(optimizer, model) == pytest.approx(1 - WD / 4, rel=1e-14)
