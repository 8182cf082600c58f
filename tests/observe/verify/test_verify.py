"""verify says of each group what it really does to its weights, and every seeded fault is caught and named."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.utils._python_dispatch import TorchDispatchMode

import torchdecay as td
from observe.verify.bits import read, same
from observe.verify.optimizers import (
    After,
    CoupledAdamW,
    DecoupledAdam,
    ForgetsLr,
    Grows,
    GrowsCoupled,
    Hidden,
    Ignores,
    Lamb,
    Lion,
    LrTwice,
    MovesFrozen,
    OncePerDtype,
    OneDtypeOnly,
    OwnName,
    Twice,
    TwiceCoupled,
    Wrapper,
    case_id,
    cases,
    live,
    make,
    without_own_decay,
)
from this_torch import Muon
from torch_optimizers import TORCH, WITHOUT
from torchdecay.observe.verify.verify import verify
from torchdecay.optimizers.cards import native_of

BF16, F16, F32, F64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
STUCK = torch.__version__ < (2, 14)
"""Whether torch's fused SGD on a CPU leaves weights of low precision where they are."""


def two_layers(dtypes=(F32,)):
    return nn.ModuleList([nn.Linear(20, 30, bias=False).to(dtype) for dtype in dtypes for _ in (1, 2)])


def faults(checked):
    return {part.fault for group in checked for part in group.parts}


# What is right is said to be right.


@pytest.mark.parametrize("maximize", [False, pytest.param(True, marks=pytest.mark.long)], ids=["minimize", "maximize"])
@pytest.mark.parametrize("dtype", [F32, F64, pytest.param(BF16, marks=pytest.mark.long), F16], ids=str)
@pytest.mark.parametrize(("name", "implementation"), list(cases(TORCH)), ids=case_id)
def test_every_torch_optimizer_does_what_the_native_table_says(name, implementation, dtype, maximize):
    """Site and amount are measured for each class, implementation and dtype, and agree with the table."""
    if maximize and name == "Muon":
        pytest.skip("Muon has no maximize")
    if STUCK and name.startswith("SGD") and implementation.get("fused") and dtype in (BF16, F16):
        pytest.skip("see test_a_fused_step_that_moves_nothing_is_named")
    _, optimizer = make(name, implementation, dtype=dtype, maximize=maximize, weight_decay=0.4)
    group = optimizer.param_groups[0]
    checked = verify(optimizer)
    assert checked.ok, checked[0].why
    known = native_of(optimizer, group)
    amount = 0.4 * group["lr"] if known.site is td.Site.BEFORE else 0.4
    assert checked[0].site is known.site
    assert checked[0].lr_enters is True
    assert checked[0].expected == pytest.approx(amount)
    # Coarse dtypes round each of the three steps that are measured.
    assert checked[0].measured == pytest.approx(amount, rel=2e-5 if dtype in (F32, F64) else 0.02)


@pytest.mark.parametrize("weight_decay", [1e-6, 1e-4, 1e-2, 3.0, 300.0])
@pytest.mark.parametrize("name", list(TORCH), ids=case_id)
def test_the_amount_is_measured_over_many_orders_of_magnitude(name, weight_decay):
    """A weak decay is as visible as a strong one, because the probe chooses its own learning rate and weights."""
    _, optimizer = make(name, {}, weight_decay=weight_decay)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3 if weight_decay < 100 else 1e-5
    checked = verify(optimizer)
    assert faults(checked) <= {"", "rounded"}, checked[0].why
    if checked.ok:
        assert checked[0].measured == pytest.approx(checked[0].expected, rel=1e-3)


@pytest.mark.parametrize("name", [*TORCH, *WITHOUT], ids=case_id)
def test_without_decay_nothing_decays(name):
    """weight_decay 0, and optimizers that have none."""
    _, optimizer = make(name, {}, weight_decay=0.0)
    checked = verify(optimizer)
    assert checked.ok, checked[0].why
    assert (checked[0].site, checked[0].expected, checked[0].measured) == (None, 0.0, 0.0)


STRANGERS = {
    "before": (td.Site.BEFORE, 1e-4, True),
    "after": (td.Site.AFTER, 1e-4, True),
    "coupled": (td.Site.GRADIENT, 0.1, True),
    "per step": (td.Site.BEFORE, 0.1, False),
    "proximal": (td.Site.AFTER, 1e-4 / (1 + 1e-4), True),
}


@pytest.mark.parametrize("how", STRANGERS)
def test_a_class_that_is_not_known_is_measured(how):
    """Where, how much, and whether the learning rate enters come from what it does; any convention is right."""
    optimizer = Lion(two_layers().parameters(), lr=1e-3, weight_decay=0.1, how=how)
    site, amount, enters = STRANGERS[how]
    checked = verify(optimizer)
    assert checked.ok, checked[0].why
    assert (checked[0].site, checked[0].lr_enters) == (site, enters)
    assert checked[0].measured == pytest.approx(amount, rel=1e-4)


def test_independent_decay_of_a_stranger_is_right_at_any_learning_rate():
    """lr/max_lr·wd is a convention; the peak is the one that a scheduler left in the group."""
    optimizer = Lion(two_layers().parameters(), lr=0.1, weight_decay=0.1, times=1 / 0.1)
    scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.25)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.025)
    checked = verify(optimizer)
    assert checked.ok, checked[0].why
    assert checked[0].measured == pytest.approx(0.025, rel=1e-3)
    assert scheduler.last_epoch == 0


def test_decay_at_none_of_the_sites_is_not_guessed():
    """LAMB's is inside a trust ratio: no fault is claimed, and no number either."""
    checked = verify(Lamb(two_layers().parameters(), lr=0.01, weight_decay=0.1))
    assert checked.ok and checked[0].site is None and checked[0].measured is None
    assert "No single pull" in checked[0].why


def test_a_decay_by_another_name_is_found():
    """`wd` on the optimizer itself, in code that replaces `.data`."""
    checked = verify(OwnName(two_layers().parameters(), lr=0.1, wd=0.3))
    assert checked.ok
    assert checked[0].measured == pytest.approx(0.03, rel=1e-3)


def test_the_hidden_decay_of_asgd_is_told():
    """It takes lambd·lr off each weight, at weight_decay 0 too."""
    model = two_layers()
    checked = verify(optim.ASGD(model.parameters(), lr=0.1, lambd=1e-3))
    assert checked.ok and "lambd=0.001 takes 0.01 %" in checked[0].why
    assert "lambd" not in verify(optim.ASGD(model.parameters(), lr=0.1, lambd=0.0))[0].why


# What is wrong is caught, and called by its name.

FAULTS = {
    Ignores: ("ignored", None, 0.0),
    Wrapper: ("ignored", None, 0.0),
    Twice: ("multiple", td.Site.BEFORE, 2e-4),
    TwiceCoupled: ("multiple", td.Site.GRADIENT, 0.2),
    After: ("site", td.Site.AFTER, 1e-4),
    DecoupledAdam: ("site", td.Site.BEFORE, 1e-4),
    CoupledAdamW: ("site", td.Site.GRADIENT, 0.1),
    Grows: ("sign", td.Site.BEFORE, -1e-4),
    GrowsCoupled: ("sign", td.Site.GRADIENT, -0.1),
    ForgetsLr: ("learning rate", td.Site.BEFORE, 0.1),
    LrTwice: ("learning rate", td.Site.BEFORE, 1e-7),
    Hidden: ("hidden", td.Site.BEFORE, 1.1e-4),
}


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("cls", FAULTS, ids=lambda cls: cls.__name__)
def test_a_seeded_fault_is_caught_and_named(cls, dtype):
    """Each faulty subclass is of a torch optimizer, so that its base says what it should do."""
    fault, site, measured = FAULTS[cls]
    checked = verify(cls(two_layers((dtype,)).parameters(), lr=1e-3, weight_decay=0.1))
    assert not checked.ok and faults(checked) == {fault}, checked[0].why
    assert checked[0].site is site
    assert checked[0].measured == pytest.approx(measured, rel=3e-3, abs=1e-12)
    assert checked[0].why


@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
@pytest.mark.parametrize("cls", [c for c in FAULTS if c is not Hidden], ids=lambda cls: cls.__name__)
def test_a_seeded_fault_is_caught_in_low_precision(cls, dtype):
    """Rounding does not hide it, at a learning rate where rounding does not hide the decay itself."""
    checked = verify(cls(two_layers((dtype,)).parameters(), lr=0.5, weight_decay=0.1))
    assert not checked.ok
    assert faults(checked) == {FAULTS[cls][0]}, checked[0].why


@pytest.mark.parametrize("base", [optim.AdamW, optim.Adam, optim.SGD], ids=lambda cls: cls.__name__)
def test_a_subclass_that_does_it_right_is_right(base):
    """The clean case of the faults above: the base class's decay, written out by hand."""

    class ByHand(base):
        @torch.no_grad()
        def step(self, closure=None):
            for group, param in live(self):
                if base is optim.AdamW:
                    param.mul_(1 - group["lr"] * group["weight_decay"])
                else:
                    param.grad = param.grad + group["weight_decay"] * param
            without_own_decay(self, super().step)

    checked = verify(ByHand(two_layers().parameters(), lr=1e-3, weight_decay=0.1))
    assert checked.ok, checked[0].why


def test_decay_once_for_each_dtype_is_caught():
    """Two dtypes in one group, and the loop over them decays everything each time."""
    checked = verify(OncePerDtype(two_layers((F32, BF16)).parameters(), lr=0.1, weight_decay=0.1))
    assert [part.fault for part in checked[0].parts] == ["multiple", "multiple"]
    assert "2 dtypes" in checked[0].why
    assert verify(OncePerDtype(two_layers().parameters(), lr=0.1, weight_decay=0.1)).ok


def test_decay_of_one_dtype_only_is_caught():
    """The parts of a group are told apart: one is right, one is not."""
    checked = verify(OneDtypeOnly(two_layers((F32, F64)).parameters(), lr=0.1, weight_decay=0.1))
    assert [(part.dtype, part.fault) for part in checked[0].parts] == [("float32", ""), ("float64", "ignored")]
    assert checked[0].measured == 0.0 and not checked[0].ok


@pytest.mark.parametrize("how", STRANGERS)
@pytest.mark.parametrize(("times", "fault"), [(0.0, "ignored"), (2.0, "multiple"), (-1.0, "sign")])
def test_a_stranger_is_faulted_for_what_no_optimizer_means(how, times, fault):
    """None at all, twice, and the wrong sign are wrong by any convention."""
    optimizer = Lion(two_layers().parameters(), lr=1e-3, weight_decay=0.1, how=how, times=times)
    assert faults(verify(optimizer)) == {fault}


def test_frozen_weights_that_move_are_caught():
    """Decay by a loop that does not ask for gradients."""
    model = two_layers()
    model[0].weight.requires_grad_(False)
    checked = verify(MovesFrozen(model.parameters(), lr=0.1, weight_decay=0.1))
    assert [part.fault for part in checked[0].parts] == ["frozen", ""]
    assert checked[0].moves_without_gradient
    clean = verify(optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1))
    assert clean.ok and not clean[0].moves_without_gradient


def test_a_hook_beside_the_native_decay_is_counted_with_it():
    """Native and hook together decay twice; allowed to run, the hook is part of what is measured."""
    optimizer = optim.AdamW(two_layers().parameters(), lr=0.1, weight_decay=0.1)

    @torch.no_grad()
    def decay_again(optimizer, args, kwargs):
        for group, param in live(optimizer):
            param.mul_(1 - group["lr"] * group["weight_decay"])

    hook = optimizer.register_step_pre_hook(decay_again)
    assert faults(verify(optimizer, allow_hooks=True)) == {"multiple"}
    hook.remove()
    assert verify(optimizer).ok


@pytest.mark.skipif(not STUCK, reason="the fused SGD of this torch moves weights of low precision")
@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
def test_a_fused_step_that_moves_nothing_is_named(dtype):
    """Until 2.13 torch's fused SGD on a CPU leaves low-precision weights where they are, all but the last few."""
    _, optimizer = make("SGD", {"fused": True}, dtype=dtype, sizes=(64, 64, 64))
    checked = verify(optimizer)
    assert faults(checked) == {"unmoved"} and "fused=True" in checked[0].why


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("weight_decay", -0.1, "grow"),
        ("weight_decay", math.nan, "nan"),
        ("weight_decay", math.inf, "inf"),
        ("weight_decay", "0.1x", "no number"),
        ("lr", math.nan, "lr is nan"),
        ("lr", -1.0, "lr is -1"),
        ("lr", "fast", "lr is 'fast'"),
    ],
)
def test_a_value_that_is_no_number_is_a_fault_before_any_step(key, value, said):
    """torch checks none of these per group; the other group is measured all the same."""
    model = two_layers()
    optimizer = optim.AdamW([{"params": [p]} for p in model.parameters()], lr=0.1, weight_decay=0.1)
    optimizer.param_groups[0][key] = value
    before = read(optimizer)
    checked = verify(optimizer)
    assert same(before, read(optimizer)) == []
    assert [group.ok for group in checked] == [False, True]
    assert checked[0].parts[0].fault == "number" and said in checked[0].why
    json.loads(checked.to_json(), parse_constant=pytest.fail)


# Rounding.


@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
@pytest.mark.parametrize(("name", "implementation"), [("AdamW", {}), ("AdamW", {"fused": True}), ("Muon", {})])
def test_decay_that_the_dtype_rounds_away_is_caught(name, implementation, dtype):
    """lr·wd = 1e-4 is far below half a unit in the last place: a run keeps its norm forever."""
    _, optimizer = make(name, implementation, dtype=dtype)
    optimizer.param_groups[0]["lr"] = 1e-3
    checked = verify(optimizer)
    assert faults(checked) == {"rounded"}
    assert checked[0].measured == 0.0 and checked[0].expected == pytest.approx(1e-4)
    assert str(dtype).removeprefix("torch.") in checked[0].why
    for param in optimizer.param_groups[0]["params"]:
        param.data = param.data.float()
    assert verify(optimizer).ok


def test_decay_that_the_dtype_distorts_is_caught():
    """In bf16 lr·wd = 0.003 shrinks some mantissas and sticks at others."""
    _, optimizer = make("AdamW", {}, dtype=BF16)
    optimizer.param_groups[0]["lr"] = 0.03
    checked = verify(optimizer)
    assert faults(checked) == {"rounded"} and "times as large" in checked[0].why
    optimizer.param_groups[0]["lr"] = 0.5
    assert verify(optimizer).ok


def test_rounding_is_judged_at_the_peak_and_not_during_warm_up():
    """At the first steps of a warm-up no decay arrives in any dtype, and nothing is lost by that."""
    optimizer = optim.AdamW(two_layers().parameters(), lr=1e-3, weight_decay=0.1)
    optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / 1e8)
    checked = verify(optimizer)
    assert checked.ok, checked[0].why
    assert verify(optim.AdamW(two_layers().parameters(), lr=2e-5, weight_decay=0.01)).ok
    assert faults(verify(optim.AdamW(two_layers().parameters(), lr=1e-7, weight_decay=0.01))) == {"rounded"}


def test_a_learning_rate_of_zero_is_no_obstacle():
    """A scheduler's first value may be 0: what the group does at others is measured."""
    optimizer = optim.AdamW(two_layers().parameters(), lr=1e-3, weight_decay=0.1)
    optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step))
    assert optimizer.param_groups[0]["lr"] == 0
    checked = verify(optimizer)
    assert checked.ok and checked[0].site is td.Site.BEFORE and checked[0].expected == 0
    faulty = Twice(two_layers().parameters(), lr=0.0, weight_decay=0.1)
    assert faults(verify(faulty)) == {"multiple"}


def test_stochastic_rounding_is_not_taken_for_a_loss():
    """What is right on average is right, although no single step is."""

    class Stochastic(optim.Optimizer):
        def __init__(self, params, lr, weight_decay):
            super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

        @torch.no_grad()
        def step(self, closure=None):
            for group, param in live(self):
                exact = param.float() * (1 - group["lr"] * group["weight_decay"])
                exact -= group["lr"] * param.grad.float()
                bits = exact.view(torch.int32) + torch.randint(0, 1 << 16, exact.shape, dtype=torch.int32)
                param.copy_((bits & -65536).view(torch.float32))

    weight = nn.Parameter(torch.randn(64, 64).to(BF16))
    checked = verify(Stochastic([weight], lr=1e-2, weight_decay=0.1))
    assert checked.ok, checked[0].why
    assert checked[0].measured == pytest.approx(1e-3, rel=0.05)


# Optimizers and plans that three steps at a rate of the probe's own do not show as they are.


class Odd(optim.Optimizer):
    """Decays by some function of group and learning rate; begins at some step; may need a closure."""

    def __init__(self, params, lr=1e-3, amount=None, first=1, needs_closure=False, wd=0.1):
        super().__init__(params, {"lr": lr, "max_lr": lr, "weight_decay": wd if amount else 0.0})
        self.amount, self.first, self.needs_closure = amount or (lambda group, size: 0.0), first, needs_closure

    @torch.no_grad()
    def step(self, closure=None):
        if self.needs_closure and closure is None:
            raise RuntimeError("closure required")
        if closure is not None:
            closure()
        for group, param in live(self):
            state = self.state[param]
            state["step"] = state.get("step", 0) + 1
            state["size"] = max(state.get("size", 0.0), float(param.grad.abs().max()))
            if state["step"] >= self.first:
                param.mul_(1 - self.amount(group, state["size"]) * group["weight_decay"]).sub_(
                    group["lr"] * param.grad.sign()
                )


@pytest.mark.parametrize("wd", [0.1, 10.0])
def test_decay_that_grows_as_the_square_of_the_learning_rate_is_measured_at_the_groups_own(wd):
    """AdamC's lr²/max_lr: at the probe's own rate it would take whole weights."""
    optimizer = Odd(two_layers().parameters(), amount=lambda group, size: group["lr"] ** 2 / group["max_lr"], wd=wd)
    (found,) = verify(optimizer)
    assert found.ok and found.site is td.Site.BEFORE and found.lr_enters
    assert found.measured == pytest.approx(1e-3 * wd, rel=1e-2)


@pytest.mark.parametrize(
    "amount",
    [lambda group, size: min(group["lr"], 0.002), lambda group, size: min(0.2, size) * group["lr"]],
    ids=["capped", "by what gradients were"],
)
def test_decay_that_follows_more_than_the_learning_rate_gets_no_number(amount):
    """What is measured at one rate says nothing about another one then, as with d-adapted optimizers."""
    (found,) = verify(Odd(two_layers().parameters(), amount=amount))
    assert found.measured is None and "follows more than the learning rate" in found.why


@pytest.mark.parametrize("first", [6, 20, 100])
def test_an_optimizer_that_begins_late_moves(first):
    """RAdam of other libraries moves at its sixth step, others after a warm-up."""
    assert verify(Odd(two_layers().parameters(), first=first)).ok


def test_an_optimizer_that_never_moves_is_told_with_what_was_seen():
    """Not for ever, but in so many steps."""
    (still,) = verify(Odd(two_layers().parameters(), first=1000))
    assert still.parts[0].fault == "unmoved" and "in 120 steps" in still.why


def test_a_cautious_weight_of_one_element_is_measured():
    """Under momentum the updates of the first steps may all lead away from 0, and leave it alone."""
    model = nn.ParameterDict(
        {name: nn.Parameter(torch.ones(size)) for name, size in zip("abc", ((1,), (), (1, 1)), strict=True)}
    )
    for kind in (optim.AdamW, optim.NAdam, optim.SGD):
        optimizer = kind(model.parameters(), lr=1e-3)
        handle = td.attach(optimizer, td.plan(model, td.cautious(0.1), rules=()), model=model)
        assert verify(optimizer).ok
        handle.remove()


def test_a_closure_may_be_taken_by_name_only():
    """As some second-order optimizers do."""

    class ByName(optim.SGD):
        def step(self, *, closure):
            return super().step(closure)

    assert verify(ByName([nn.Parameter(torch.ones(3))], lr=0.1, weight_decay=0.1)).ok


class EachTenth(optim.Optimizer):
    """Decays in each so many-th step, as what is worked through lazily does."""

    every = 10

    def step(self, closure=None):
        self.taken = vars(self).get("taken", 0) + 1
        for group in self.param_groups:
            for param in (one for one in group["params"] if one.grad is not None):
                if self.taken % self.every == 0:
                    param.data.mul_(1 - group["lr"] * group["weight_decay"])
                param.data.add_(param.grad, alpha=-group["lr"])


def test_decay_that_comes_in_some_steps_only_is_not_called_ignored():
    """What is said is how many steps were looked at, and in which it showed first."""
    (weight,) = params = [nn.Parameter(torch.randn(4, 4))]
    optimizer = EachTenth(params, {"lr": 0.01, "weight_decay": 0.1})
    (group,) = verify(optimizer)
    assert group.ok and group.measured is None and "first in step 10" in group.why
    optimizer.every = 500
    (group,) = verify(optimizer)
    assert faults(verify(optimizer)) == {"ignored"} and "in 120 steps nothing shows" in group.why
    assert not hasattr(optimizer, "taken") and weight.grad is None


@pytest.mark.parametrize("how", ["before", "coupled"])
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_a_pull_that_is_too_small_to_tell_is_not_called_none(dtype, how):
    """A hundred-thousandth of weight_decay: no number that rounding made up, and not "ignored" either."""
    optimizer = Lion(two_layers((dtype,)).parameters(), lr=1e-3, weight_decay=0.1, how=how, times=1e-5)
    (checked,) = verify(optimizer)
    assert checked.measured is None and ("too little" in checked.why or "so little" in checked.why)
    assert faults([checked]) <= {"", "unmeasured"}
    none_at_all = Lion(two_layers((dtype,)).parameters(), lr=1e-3, weight_decay=0.1, how=how, times=0.0)
    assert faults(verify(none_at_all)) == {"ignored"}


def test_what_bf16_keeps_of_a_decay_with_its_own_law_is_not_judged_by_another():
    """lr² / max_lr · weight_decay is all of the weight here, and lr · weight_decay, a hundredth, would be lost."""
    optimizer = Odd(two_layers((BF16,)).parameters(), lr=0.1, amount=lambda group, size: group["lr"] ** 2 / 1e-2)
    assert verify(optimizer)[0].parts[0].fault != "rounded"


def test_a_step_that_raises_without_a_closure_gets_one():
    """The signature says that it may go without; only the step itself tells."""
    (found,) = verify(Odd(two_layers().parameters(), amount=lambda group, size: group["lr"], needs_closure=True))
    assert found.ok and found.measured == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize(
    "decay",
    [
        td.per_step(1e-3, schedule=td.schedules.follow_lr()),
        td.independent(1e-3, schedule=td.schedules.follow_lr()),
        td.coupled(5e-4, schedule=td.schedules.follow_lr()),
        td.decoupled(0.1, schedule=td.schedules.piecewise({0: 0.1, 1: 1.0})),
        td.per_step(0.001, schedule=td.schedules.warmup(3)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("base", [optim.SGD, optim.Adam, optim.AdamW], ids=lambda cls: cls.__name__)
def test_a_plan_that_follows_the_learning_rate_or_rises_is_right(decay, base):
    """The probe's rate is such that no step of the few takes more than is told apart, nor a whole weight."""
    model = two_layers()
    optimizer = base(model.parameters(), lr=1e-3)
    td.attach(optimizer, td.plan(model, decay, rules=()), model=model)
    checked = verify(optimizer)
    assert checked.ok, checked[0].why
    assert checked[0].measured == pytest.approx(checked[0].expected, rel=1e-2, abs=1e-9)


@pytest.mark.parametrize("beside", ["controller", "frozen"])
def test_a_threshold_beside_what_is_not_measured_with_it_is_verified(beside):
    """The step size of an l1 pull is asked for where it is measured only: elsewhere there is no state to ask."""
    model = two_layers()
    other = td.l1(0.1) if beside == "frozen" else td.forms.constrained(kappa=0.1)
    plan = td.plan(model, None, rules=[("0.*", td.l1(0.1)), ("1.*", other)])
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    td.attach(optimizer, plan, model=model)
    if beside == "frozen":
        model[1].weight.requires_grad_(False)
    checked = verify(optimizer)
    assert checked.ok, checked[0].why


# Attached plans.

FORMS = {
    "native": td.native(0.1),
    "coupled": td.coupled(0.1),
    "decoupled": td.decoupled(0.1),
    "independent": td.independent(0.1),
    "independent with a peak": td.independent(0.1, max_lr=0.05),
    "per step": td.per_step(0.01),
    "corrected": td.corrected(0.1),
    "cautious": td.cautious(0.1),
    "l1": td.l1(0.1),
    "elastic net": td.elastic_net(l1=0.1, l2=0.2),
    "toward": td.toward("initial", 0.1),
    "proximal": td.forms.proximal(0.1),
    "huber": td.forms.huber(0.1),
    "spectral": td.forms.spectral(0.1),
    "masked": td.decoupled(0.1, mask=td.spare_rows(0, 2)),
    "scheduled": td.decoupled(0.1, schedule=td.schedules.linear(1.0, 0.2, 5)),
}


@pytest.mark.parametrize("via", ["auto", "hook"])
@pytest.mark.parametrize("name", ["SGD nesterov", "Adam", "AdamW", "Adafactor", "Muon", "RMSprop"], ids=case_id)
@pytest.mark.parametrize("form", FORMS)
def test_an_attached_plan_does_what_it_says(form, name, via):
    """Every form, native and by hook, held against its definition carried out from outside."""
    model, optimizer = make(name, {}, weight_decay=0.7)
    td.attach(optimizer, td.plan(model, FORMS[form]), model=model, via=via)
    for _, param in ((g, p) for g in optimizer.param_groups for p in g["params"]):
        param.grad = torch.ones_like(param)
    optimizer.step()
    checked = verify(optimizer)
    assert checked.ok, checked[0].why
    assert checked[0].measured == pytest.approx(checked[0].expected, rel=2e-3)
    assert checked[0].site in (FORMS[form].site, native_of(optimizer, optimizer.param_groups[0]).site)


SCHEDULERS = {
    "one cycle": lambda optimizer: optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20),
    "cyclic": lambda optimizer: optim.lr_scheduler.CyclicLR(optimizer, 0.001, 0.1, cycle_momentum=False),
    "warm-up": lambda optimizer: optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 5),
}


@pytest.mark.parametrize("num_steps", [0, 3])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("form", ["independent", "corrected", "per step", "follow_lr"])
def test_an_attached_plan_is_right_under_any_scheduler(form, scheduler, num_steps):
    """Peaks and λ_t are those of the run as it stands, not those that the probe's own learning rate would give."""
    decay = FORMS.get(form, td.coupled(0.1, schedule=td.schedules.follow_lr()))
    model, optimizer = make("AdamW", {})
    schedule = SCHEDULERS[scheduler](optimizer)
    td.attach(optimizer, td.plan(model, decay), model=model, scheduler=schedule)
    for _ in range(num_steps):
        for param in model.parameters():
            param.grad = torch.ones_like(param)
        optimizer.step()
        schedule.step()
    checked = verify(optimizer)
    assert checked.ok, checked[0].why
    lr, peak = optimizer.param_groups[0]["lr"], 0.1
    amount = {
        "independent": 0.1 * lr / peak,
        "corrected": 0.1 * lr**2 / peak,
        "per step": 0.01,
        "follow_lr": 0.1 * lr / peak,
    }[form]
    assert checked[0].expected == pytest.approx(amount)
    assert checked[0].measured == pytest.approx(amount, rel=1e-3)


@pytest.mark.parametrize("form", ["decoupled", "toward", "l1", "cautious", "coupled", "masked"])
def test_an_attached_plan_that_does_something_else_is_caught(form, monkeypatch):
    """The seeded fault of the test above: the hooks carry out a tenth more than the plan says."""
    from torchdecay.apply.program import GroupProgram

    amount = GroupProgram.amount
    monkeypatch.setattr(GroupProgram, "amount", lambda *args: 1.1 * amount(*args))
    model, optimizer = make("SGD momentum", {})
    td.attach(optimizer, td.plan(model, FORMS[form]), model=model, via="hook")
    assert not verify(optimizer).ok


def test_hooks_that_are_gone_are_caught():
    """A plan is attached, and somebody cleared the optimizer's hooks."""
    model, optimizer = make("SGD", {}, weight_decay=0.0)
    td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model)
    optimizer._optimizer_step_pre_hooks.clear()
    checked = verify(optimizer)
    assert faults(checked) == {"ignored"} and "decoupled(0.1)" in checked[0].why


def test_decay_by_hook_keeps_in_bf16_what_native_decay_loses():
    """The attached plan owes what rounding would take, and pays it; so it is right where AdamW's own is not."""
    model, optimizer = make("AdamW", {}, dtype=BF16)
    optimizer.param_groups[0]["lr"] = 1e-3
    handle = td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model, via="hook")
    checked = verify(optimizer)
    assert checked.ok, checked[0].why
    handle.remove()
    assert faults(verify(optimizer)) == {"rounded"}


def test_rows_of_one_group_are_held_against_their_own_decay():
    """Layer-wise coefficients over six orders of magnitude, spared rows and a penalty, in one group."""
    model = nn.ModuleDict({name: nn.Linear(9, 7, bias=False) for name in ("a", "b", "c", "d", "e")})
    plan = td.plan(
        model,
        td.decoupled(1.0),
        rules=[
            td.rule("b.*", td.decoupled(1e-3)),
            td.rule("c.*", td.coupled(1e-6)),
            td.rule("d.*", None),
            td.rule("e.*", td.penalized(0.1)),
        ],
    )
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    td.attach(optimizer, plan, model=model)
    checked = verify(optimizer, model=model)
    assert checked.ok, checked[0].why
    found = {name: part.measured for part in checked[0].parts for name in part.names}
    assert found == {
        "a.weight": pytest.approx(1e-2, rel=1e-3),
        "b.weight": pytest.approx(1e-5, rel=1e-3),
        "c.weight": pytest.approx(1e-6, rel=1e-3),
        "d.weight": 0.0,
        "e.weight": 0.0,
    }


def test_another_plan_is_held_against_what_is_attached():
    """`plan=` says what should happen; the attached plan is what does."""
    model, optimizer = make("SGD", {}, weight_decay=0.0)
    td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model)
    assert verify(optimizer, plan=td.plan(model, td.decoupled(0.1))).ok
    checked = verify(optimizer, plan=td.plan(model, td.decoupled(0.2)))
    assert faults(checked) == {"multiple"} and checked[0].measured == pytest.approx(0.01, rel=1e-3)


def test_a_plan_without_attach_is_held_against_the_bare_optimizer():
    """Native rows are right as they are; the others are not carried out by anybody."""
    model = nn.Sequential(nn.Linear(9, 7), nn.LayerNorm(7))
    native = td.plan(model, td.native(0.1))
    assert verify(optim.AdamW(native.param_groups(model), lr=0.1), plan=native).ok
    assert verify(optim.AdamW(native.param_groups(model), lr=0.1), plan=td.plan(model, td.decoupled(0.1))).ok
    assert not verify(optim.SGD(native.param_groups(model), lr=0.1), plan=td.plan(model, td.decoupled(0.2))).ok
    plan = td.plan(model, td.l1(0.1))
    checked = verify(optim.SGD(plan.param_groups(model), lr=0.1), plan=plan)
    assert faults(checked) == {"wiring", ""}
    checked = verify(optim.SGD(plan.param_groups(model), lr=0.1))
    assert faults(checked) == {"wiring", ""} and "never carried out" in checked[0].why


def test_forms_that_decide_for_themselves_are_only_measured():
    """A controller's number depends on gradients and weights, and small tensors have others."""
    model, optimizer = make("SGD momentum", {})
    td.attach(optimizer, td.plan(model, td.forms.stable(0.1)), model=model)
    checked = verify(optimizer)
    assert checked.ok and checked[0].expected is None and "stable(0.1)" in checked[0].why


# Several optimizers, groups and dtypes; what is printed.


def test_groups_optimizers_and_names_are_told_apart():
    """A list of optimizers gives one entry per group, each with the optimizer it belongs to."""
    model = nn.Sequential(nn.Linear(9, 7), nn.LayerNorm(7))
    muon = Muon([model[0].weight], lr=0.02, weight_decay=0.1)
    adamw = Twice([{"params": [model[0].bias]}, {"params": list(model[1].parameters())}], lr=0.1, weight_decay=0.2)
    checked = verify([muon, adamw], model=model)
    assert len(checked) == 3 and [group.ok for group in checked] == [True, False, False]
    assert [(g.optimizer, g.optimizer_index, g.index) for g in checked] == [
        ("Muon", 0, 0),
        ("Twice", 1, 0),
        ("Twice", 1, 1),
    ]
    assert checked[2].parts[0].names == ("1.weight", "1.bias")
    assert verify(muon)[0].parts[0].names == ("group 0, #0",)


def test_it_prints_and_travels_as_json():
    """The table says group, site, numbers and why; JSON has the same."""
    checked = verify(Twice(two_layers().parameters(), lr=0.1, weight_decay=0.1))
    text = checked.to_text(width=200)
    assert "Twice 0" in text and "applied 2 times" in text and "0 of 1 groups" in text
    assert str(checked) and repr(checked) == str(checked)
    body = json.loads(checked.to_json())
    assert body["ok"] is False and body["format"] == "torchdecay.verification"
    assert body["groups"][0]["parts"][0]["fault"] == "multiple"
    assert body["groups"][0]["parts"][0]["site"] == "before"


def test_markup_in_names_is_not_obeyed():
    """A parameter may be called anything."""
    weight = nn.Parameter(torch.randn(5, 5))
    optimizer = optim.SGD([{"params": [weight], "param_names": ["[red]x[/red]"]}], lr=0.1)
    assert "[red]x[/red]" in verify(optimizer).to_text()


def test_what_can_not_be_measured_is_said():
    """On the meta device and before materialization there are no numbers; that is not ok."""
    weight = nn.Parameter(torch.empty(4, 4, device="meta"))
    checked = verify(optim.SGD([weight, nn.Parameter(torch.ones(3))], lr=0.1))
    assert [part.fault for part in checked[0].parts] == ["unmeasured", ""]
    assert "meta" in checked[0].why
    lazy = nn.LazyLinear(3)
    assert faults(verify(optim.SGD(lazy.parameters(), lr=0.1))) == {"unmeasured"}


@pytest.mark.long
def test_of_very_many_parameters_an_even_choice_speaks_for_all():
    """First and last are among them, so that a loop that stops early is seen."""
    params = [nn.Parameter(torch.ones(2)) for _ in range(3000)]

    class Stops(optim.SGD):
        def step(self, closure=None):
            last = self.param_groups[0]["params"][-1]
            if last.grad is not None:
                with torch.no_grad():
                    last.grad -= self.param_groups[0]["weight_decay"] * last
            super().step()

    before = time.perf_counter()
    assert verify(optim.SGD(params, lr=0.1, weight_decay=0.1)).ok
    assert time.perf_counter() - before < 10
    checked = verify(Stops(params, lr=0.1, weight_decay=0.1))
    assert [len(part.names) for part in checked[0].parts if not part.ok] == [1]
    assert sum(len(part.names) for part in checked[0].parts) == 3000


# Cost.


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that any operation returned in storage of its own."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in torch.utils._pytree.tree_leaves(args) if torch.is_tensor(x)}
        for tensor in torch.utils._pytree.tree_leaves(found):
            if torch.is_tensor(tensor) and tensor.untyped_storage()._cdata not in given:
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return found


def gpt2_sized():
    """124 million parameters in GPT-2's 148 tensors, their memory not even touched."""
    shapes = [(50257, 768), (1024, 768), (768,), (768,)]
    block = [(768,), (768,), (2304, 768), (2304,), (768, 768), (768,)]
    block += [(768,), (768,), (3072, 768), (3072,), (768, 3072), (768,)]
    return [nn.Parameter(torch.empty(shape)) for shape in shapes + 12 * block]


@pytest.mark.long
def test_no_second_copy_of_the_weights_is_made():
    """Of a model of 497 MB not a megabyte is copied, with momentum in flight on all of it."""
    params = gpt2_sized()
    optimizer = optim.AdamW(params, lr=3e-4, weight_decay=0.1)
    for param in params:
        param.grad = torch.empty_like(param)
        optimizer.state[param] = {"step": torch.tensor(3.0), "exp_avg": torch.empty_like(param)}
    with Largest() as largest:
        checked = verify(optimizer)
    assert checked.ok and sum(part.num_elements for part in checked[0].parts) > 124e6
    assert 0 < largest.bytes < 1 << 20


def test_a_copy_would_be_seen():
    """The seeded fault of the test above: one clone of one weight is over the limit."""
    weight = gpt2_sized()[0]
    with Largest() as largest:
        weight.detach().clone()
    assert largest.bytes > 1 << 20


def test_a_model_of_gpt2_size_is_verified_in_about_a_second():
    """A user runs it at the start of every training. The best of three, because other work may load the cores."""
    optimizer = optim.AdamW(gpt2_sized(), lr=3e-4, weight_decay=0.1)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert verify(optimizer).ok
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 3


@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.tensor])
def test_numbers_of_numpy_and_torch_are_numbers(kind):
    """A scalar read from an array or a config decays as a float does, and verify switches it off to see by how much."""
    model = nn.Linear(3, 2, bias=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=kind(0.25))
    checked = td.verify(optimizer)
    assert checked.ok, checked[0].why
    assert checked[0].measured == pytest.approx(1e-2 * 0.25, rel=1e-3)
    assert td.audit(optimizer, select="WD301").ok


def test_of_a_group_without_decay_no_more_is_said_than_was_measured() -> None:
    """A decay that comes later, by another pass, shows in no probed step."""
    (row,) = td.verify(torch.optim.SGD([torch.nn.Parameter(torch.ones(4))], lr=0.1))
    assert row.why == "No weight decay is set. None showed in the probed steps."
