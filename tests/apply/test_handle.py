"""What a handle says in public about the plan at work."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td


def job(decay, cls=optim.SGD, dtype=torch.float64, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False)).to(dtype)
    optimizer = cls(model.parameters(), lr=0.1, **options)
    rules = [("0.*", decay)] if isinstance(decay, td.Decay) else decay
    return model, optimizer, td.attach(optimizer, td.plan(model, None, rules=rules), model=model)


def step(model, optimizer, *, by=None):
    for param in model.parameters():
        param.grad = torch.zeros_like(param) if by is None else torch.full_like(param, by)
    optimizer.step()


def test_what_was_given_can_be_read():
    """The model and the scheduler, as they were given."""
    model, optimizer, handle = job(td.decoupled(0.1))
    assert handle.model is model
    assert handle.scheduler is None
    handle.remove()
    scheduler = optim.lr_scheduler.ConstantLR(optimizer)
    assert td.attach(optimizer, td.plan(model, 0.1), model=model, scheduler=scheduler).scheduler is scheduler


def test_steps_count_what_moved_weights():
    """A step at learning rate 0 is none."""
    model, optimizer, handle = job(td.decoupled(0.1))
    for lr in (0.1, 0.0, 0.1):
        optimizer.param_groups[0]["lr"] = lr
        step(model, optimizer)
    assert handle.steps(0) == 2


def test_references_and_masks_are_those_that_the_pull_reads():
    """By name; None for what is pulled toward 0 as a whole, or not at all."""
    model, _, handle = job(td.toward("initial", 0.1))
    assert torch.equal(handle.reference("0.weight"), model[0].weight)
    assert handle.reference("0.weight") is handle.state_dict()["0.weight"]
    assert handle.reference("1.weight") is None
    assert handle.mask("0.weight") is None


def test_a_peak_can_be_asked_for_any_decay():
    """Its own, the one that the group keeps, or the one that the step to come would find."""
    model, optimizer, handle = job(td.independent(0.1))
    assert handle.max_lr(0) is None
    assert handle.max_lr(0, td.independent(0.1)) == 0.1
    assert handle.max_lr(0, td.independent(0.1, max_lr=3.0)) == 3.0
    step(model, optimizer)
    assert handle.max_lr(0) == 0.1


def test_debts_are_what_low_precision_weights_owe():
    """As a log-shrink below 0, by name."""
    model, optimizer, handle = job(td.decoupled(0.01), dtype=torch.bfloat16)
    assert handle.debts == {}
    step(model, optimizer)
    assert handle.debts == {"0.weight": pytest.approx(-0.001, rel=1e-3)}


def test_duals_are_the_multipliers_of_constraints():
    """By name, 0 while the bound holds."""
    model, optimizer, handle = job(td.forms.constrained(kappa=1e-3))
    assert handle.duals == {"0.weight": 0.0}
    step(model, optimizer)
    assert handle.duals["0.weight"] > 0


@pytest.mark.parametrize(
    ("decay", "cls", "held", "moved"),
    [
        (td.decoupled(0.1), optim.AdamW, 0, 0),
        (td.decoupled(0.1), optim.SGD, 0, 2),
        (td.toward("initial", 0.1), optim.SGD, 1, 3),
        (td.coupled(0.1), optim.AdamW, 0, 3),
        (td.penalized(0.1), optim.SGD, 0, 0),
    ],
    ids=str,
)
def test_costs_are_in_sizes_of_the_weights(decay, cls, held, moved):
    """Nothing where the optimizer's own kernel decays, or the loss does."""
    model, _, handle = job([("*", decay)], cls)
    size = model[0].weight.nbytes
    cost = handle.cost("0.weight")
    assert (cost.held, cost.moved) == (held * size, moved * size)


@pytest.mark.parametrize("form", [td.independent, td.corrected])
@pytest.mark.parametrize(("cls", "via"), [(optim.AdamW, "auto"), (optim.AdamW, "hook"), (optim.SGD, "hook")])
def test_under_a_rate_that_is_set_by_hand_no_step_takes_more_than_was_planned(form, cls, via):
    """The first of them is the lowest, and would be far too low a peak; a resumed run knows how high it was."""
    model = nn.Linear(3, 2, bias=False).double()
    plan = td.plan(model, form(0.01), rules=())
    optimizer = cls(model.parameters(), lr=0.5)
    td.attach(optimizer, plan, model=model, via=via)

    def taken(optimizer, model, lr):
        optimizer.param_groups[0]["lr"] = lr
        before = model.weight.detach().clone()
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        return 1 - (model.weight.detach() / before).mean().item()

    scale = 1.0 if form is td.independent else 0.1
    for lr in (0.001, 0.01, 0.1):
        assert taken(optimizer, model, lr) <= 0.01 * max(lr / 0.1, scale) * (1 + 1e-9)
    assert taken(optimizer, model, 0.1) == pytest.approx(0.01 * scale)
    assert taken(optimizer, model, 0.05) == pytest.approx(0.005 * (1.0 if form is td.independent else 0.05))
    other = nn.Linear(3, 2, bias=False).double()
    resumed = cls(other.parameters(), lr=0.001)
    td.attach(resumed, plan, model=other, via=via)
    resumed.load_state_dict(optimizer.state_dict())
    assert taken(resumed, other, 0.05) == pytest.approx(0.005 * (1.0 if form is td.independent else 0.05))


@pytest.mark.parametrize("event", ["load", "update", "unfreeze"])
@pytest.mark.parametrize("decay", [td.independent(0.01), td.per_step(0.01), td.decoupled(0.1)], ids=str)
def test_a_change_at_learning_rate_0_does_not_stop_the_decay(decay, event):
    """What the kernel has to read is not known at a rate of 0, and has to be written when the rate is known."""
    model, optimizer, handle = job([("*", decay)], optim.AdamW)
    model[1].weight.requires_grad_(event != "unfreeze")
    handle.update(td.plan(model, None, rules=[("*", decay)]))
    step(model, optimizer)
    optimizer.param_groups[0]["lr"] = 0.0
    if event == "load":
        optimizer.load_state_dict(optimizer.state_dict())
    elif event == "unfreeze":
        model[1].weight.requires_grad_(True)
        handle.update(td.plan(model, None, rules=[("*", decay)]))
    else:
        handle.update(td.plan(model, None, rules=[("*", decay)]))
    step(model, optimizer)
    optimizer.param_groups[0]["lr"] = 0.1
    before = model[0].weight.detach().clone()
    for _ in range(3):
        step(model, optimizer)
    assert (model[0].weight / before).mean().item() == pytest.approx(0.99**3)


def test_a_handle_that_was_removed_reads_and_leaves_the_groups_alone():
    """Who looks at it after the end is told how it was, and what stood before stays."""
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=0.3)
    handle = td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model)
    handle.remove()
    assert handle.steps(0) == 0 and handle.lowering["weight"].route == "hook"
    assert optimizer.param_groups[0]["weight_decay"] == 0.3 and "torchdecay" not in optimizer.param_groups[0]


@pytest.mark.parametrize("via", ["auto", "hook"])
def test_a_plan_that_comes_in_the_middle_of_a_run_is_where_it_would_be(via):
    """At step 50 of a schedule that ends at 100, half of the decay is left; the run's own step, not the plan's."""
    model = nn.Linear(2, 1, bias=False).double()
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    plan = td.plan(model, td.decoupled(1.0, schedule=td.schedules.linear(1.0, 0.0, 100)))
    handle = td.attach(optimizer, plan, model=model, via=via, step=50)
    before = model.weight.detach().clone()
    model.weight.grad = torch.zeros_like(model.weight)
    optimizer.step()
    assert handle.steps(0) == 51
    torch.testing.assert_close(model.weight.detach(), before * (1 - 0.1 * 0.5))
    handle.remove()
    for step in (-1, 1.5, "many"):
        with pytest.raises(td.ApplyError, match="step is"):
            td.attach(optimizer, plan, model=model, step=step)


def test_groups_that_come_later_go_by_the_run_s_own_step_where_it_was_said():
    """A schedule that is keyed to the run does not begin anew for a layer that is unfrozen at step 52."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)).double()
    plan = td.plan(model, td.decoupled(1.0, schedule=td.schedules.linear(1.0, 0.0, 100)))
    for step, expected in ((50, 52), (None, 0)):
        optimizer = optim.SGD(model[0].parameters(), lr=0.1)
        handle = td.attach(optimizer, plan, model=model, step=step)
        for param in model.parameters():
            param.grad = torch.zeros_like(param)
        optimizer.step()
        optimizer.step()
        optimizer.add_param_group({"params": list(model[1].parameters())})
        assert handle.steps(1) == expected
        before = model[1].weight.detach().clone()
        optimizer.step()
        assert torch.equal(model[1].weight.detach(), before * (1 - 0.1 * (1 - expected / 100)))
        assert handle.steps(1) == expected + 1
        handle.remove()


def test_a_checkpoint_knows_the_step_better_than_the_script_that_said_it_once():
    """Resumed at step 53, a script that still says step=50 goes on at 53, whichever of the two comes first."""
    model = nn.Linear(2, 1, bias=False)
    plan = td.plan(model, td.decoupled(1.0, schedule=td.schedules.linear(1.0, 0.0, 100)))

    def made():
        return optim.SGD(plan.param_groups(model), lr=0.1)

    optimizer = made()
    handle = td.attach(optimizer, plan, step=50)
    model.weight.grad = torch.zeros_like(model.weight)
    for _ in range(3):
        optimizer.step()
    saved = optimizer.state_dict()
    before, after = made(), made()
    before.load_state_dict(saved)
    assert td.attach(before, plan, step=50).steps(0) == 53
    handle = td.attach(after, plan, step=50)
    after.load_state_dict(saved)
    assert handle.steps(0) == 53


@pytest.mark.parametrize(
    "decay", [td.decoupled(0.1), td.cautious(0.1), td.toward("initial", 0.1), td.forms.proximal(1e-4)], ids=repr
)
@pytest.mark.parametrize("via", ["auto", "hook"])
def test_a_debt_is_paid_by_weights_that_are_cast_to_float32(decay, via):
    """What bf16 could not take yet is taken then, once, and no debt stands for ever."""
    left = []
    for steps in (0, 3):
        model = nn.Linear(3, 1, bias=False)
        model.weight.data = torch.tensor([[1.0, 2.0, -3.0]]).bfloat16()
        optimizer = optim.SGD(model.parameters(), lr=1e-3)
        handle = td.attach(optimizer, td.plan(model, decay, rules=()), model=model, via=via)
        if decay.reference is not None:
            handle.reference("weight").zero_()
        for step in range(steps + 1):
            if step == steps:
                assert bool(handle.debts) is bool(steps) and torch.equal(
                    model.weight[0, :2].float(), torch.tensor([1.0, 2.0])
                )
                model.float()
            model.weight.grad = torch.zeros_like(model.weight)
            optimizer.step()
        left.append(model.weight.detach()[0] / torch.tensor([1.0, 2.0, -3.0]))
        assert not handle.debts or set(handle.debts.values()) == {0.0}
    # Four times 1e-4 in place of once, in float32.
    torch.testing.assert_close(left[1], left[0] ** 4, rtol=3e-7, atol=0)
    assert (left[0] < 1).all()
