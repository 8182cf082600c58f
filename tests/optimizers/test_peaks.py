"""η_max is each group's own peak, wherever it is written."""

from __future__ import annotations

import sys
import warnings

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


def steps_at(handle, optimizer, model, rates):
    """What steps at these learning rates leave of the weights, each."""
    left = []
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = rate
        left.append(retention(optimizer, model))
    return left


@pytest.mark.parametrize("via", ["auto", "hook"])
@pytest.mark.parametrize("decay", [DECAY, td.corrected(WD), td.decoupled(WD, schedule=td.schedules.follow_lr())])
def test_a_learning_rate_above_the_peak_is_told_once_and_found_by_the_audit(decay, via):
    """A warm-up by hand begins low: until it is over, every step is the highest so far."""
    model, optimizer = optimizer_of(optim.AdamW, weight_decay=0.0)
    handle = td.attach(optimizer, td.plan(model, decay), model=model, via=via)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps_at(handle, optimizer, model, [0.1, 0.05])
    assert handle.outgrown(0) is None and "WD307" not in td.audit(optimizer, model=model).codes
    with pytest.warns(td.PeakWarning, match=r"0\.2 now, above 0\.1[\s\S]*max_lr=") as told:
        steps_at(handle, optimizer, model, [0.2, 0.3, 0.4, 0.1])
    assert len(told) == 1 and told[0].filename == __file__
    assert handle.outgrown(0) == 0.1 and handle.max_lr(0) == 0.4
    assert "WD307" in td.audit(optimizer, model=model).codes
    other, resumed = optimizer_of(optim.AdamW, weight_decay=0.0)
    again = td.attach(resumed, td.plan(other, decay), model=other, via=via)
    resumed.load_state_dict(optimizer.state_dict())
    assert again.outgrown(0) == 0.1


def test_a_peak_that_is_passed_ends_no_step_where_warnings_are_errors(capsys):
    """A warm-up by hand: it is told on stderr, and each step takes what is meant and no more."""
    model, optimizer = optimizer_of(lr=0.1)
    handle = td.attach(optimizer, td.plan(model, DECAY), model=model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.showwarning = lambda said, *more: print(said, file=sys.stderr)
        steps_at(handle, optimizer, model, [0.1, 0.2, 0.3])
    assert handle.steps(0) == 3 and capsys.readouterr().err.count("0.2 now, above 0.1") == 1


def test_a_scheduler_that_is_made_too_late_and_a_peak_that_is_too_low_are_told():
    """The peak was taken at the first step, or given with the decay: the learning rate shows that it is none."""
    model, optimizer = optimizer_of(lr=0.02)
    td.attach(optimizer, td.plan(model, td.independent(0.01)), model=model)
    retention(optimizer, model)
    lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=4, cycle_momentum=False, div_factor=5.0)
    with pytest.warns(td.PeakWarning, match=r"0\.1 now, above 0\.02"):
        retention(optimizer, model)
    model, optimizer = optimizer_of(lr=0.2)
    td.attach(optimizer, td.plan(model, td.independent(WD, max_lr=0.1)), model=model)
    with pytest.warns(td.PeakWarning, match=r"0\.2 now, above 0\.1"):
        retention(optimizer, model)


def test_the_peak_may_be_given_to_attach():
    """For all groups or for each; a decay's own comes first, and what is no peak is refused by name."""
    model, optimizer = optimizer_of(lr=0.1)
    handle = td.attach(optimizer, td.plan(model, DECAY), model=model, max_lr=0.4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = steps_at(handle, optimizer, model, [0.1, 0.4])
    assert found == pytest.approx([1 - WD / 4, 1 - WD], rel=1e-14) and handle.max_lr(0) == 0.4
    handle.remove()
    own = td.attach(optimizer, td.plan(model, td.independent(WD, max_lr=0.8)), model=model, max_lr=[0.4])
    assert steps_at(own, optimizer, model, [0.4]) == pytest.approx([1 - WD / 2], rel=1e-14)
    own.remove()
    for given, says in (([0.1, 0.2], "max_lr has 2 numbers"), (0.0, "max_lr is 0"), ("high", "max_lr is 'high'")):
        with pytest.raises(td.ApplyError, match=says):
            td.attach(optimizer, td.plan(model, DECAY), model=model, max_lr=given)


def test_a_scale_of_timm_is_part_of_the_peak():
    """Its schedulers set lr = lr_scale · initial_lr · factor, and leave initial_lr as it is."""
    model, optimizer = optimizer_of(lr=0.1)
    optimizer.param_groups[0] |= {"lr_scale": 0.5, "initial_lr": 0.1}
    handle = td.attach(optimizer, td.plan(model, DECAY), model=model)
    found = steps_at(handle, optimizer, model, [0.01, 0.05, 0.025])
    assert found == pytest.approx([1 - WD / 5, 1 - WD, 1 - WD / 2], rel=1e-14)
    # A scale that nobody applies is no part of it.
    model, optimizer = optimizer_of(lr=0.1)
    optimizer.param_groups[0] |= {"lr_scale": 0.5, "initial_lr": 0.1}
    handle = td.attach(optimizer, td.plan(model, DECAY), model=model)
    assert steps_at(handle, optimizer, model, [0.1]) == pytest.approx([1 - WD], rel=1e-14)
