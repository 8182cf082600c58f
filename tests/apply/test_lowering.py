"""Native where it is the same number, by hook where it is not, and why."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from this_torch import HAS_SWITCH, needs_adams_switch
from torchdecay.apply import routes

RAMP = td.schedules.linear(0.0, 1.0, 10)
WD = 0.1


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).double()


def lowered(decay, cls, **options):
    model = make_model()
    plan = td.plan(model, decay)
    optimizer = cls(plan.param_groups(model), lr=0.5, **options)
    return td.lower(plan, optimizer), optimizer


class Own(optim.AdamW):
    def step(self, closure=None):
        return super().step(closure)


# (decay, optimizer): (route, exact, words of the reason, weight_decay that attach writes)
ROUTES = {
    (td.native(WD), optim.SGD): ("native", True, "by definition", WD),
    (td.native(WD), optim.Adafactor): ("native", True, "by definition", WD),
    (td.native(WD), Own): ("native", True, "by definition", WD),
    (td.coupled(WD), optim.SGD): ("native", True, "the same number", WD),
    (td.coupled(WD), optim.Adam): ("native", True, "the same number", WD),
    (td.coupled(WD), optim.AdamW): ("hook", True, "own weight_decay is decoupled", 0.0),
    (td.coupled(WD), optim.Rprop): ("hook", True, "is not known", 0.0),
    (td.decoupled(WD), optim.SGD): ("hook", True, "own weight_decay is coupled", 0.0),
    (td.decoupled(WD), optim.Adam): ("native", True, "decoupled_weight_decay=True", WD)
    if HAS_SWITCH
    else ("hook", True, "own weight_decay is coupled", 0.0),
    (td.decoupled(WD), optim.AdamW): ("native", True, "the same number", WD),
    (td.decoupled(WD), optim.Adafactor): ("native", False, r"RMS\(p\)", WD),
    (td.decoupled(WD), Own): ("hook", True, "in Own is not known", 0.0),
    (td.decoupled(WD, schedule=RAMP), optim.AdamW): ("native", True, "the same number", 0.0),
    (td.independent(WD), optim.AdamW): ("native", False, "rounded once", WD / 0.5),
    (td.independent(WD), optim.SGD): ("hook", True, "own weight_decay is coupled", 0.0),
    (td.per_step(WD), optim.AdamW): ("native", False, "rounded once", WD / 0.5),
    (td.l1(WD), optim.SGD): ("hook", True, "no torch optimizer does this natively", 0.0),
    (td.l1(WD), optim.Adam): ("hook", True, "no torch optimizer does this natively", 0.0),
    (td.l1(WD), optim.RMSprop): ("hook", False, "another optimum", 0.0),
    (td.elastic_net(l1=WD, l2=WD), optim.Adagrad): ("hook", False, "another optimum", 0.0),
    (td.toward("initial", WD), optim.AdamW): ("hook", True, "no torch optimizer does this natively", 0.0),
    (td.decoupled(WD, mask=td.spare_rows(0)), optim.AdamW): ("hook", True, "no torch optimizer", 0.0),
    (td.penalized(WD), optim.SGD): ("loss", True, r"handle\.penalty\(model\)", 0.0),
    (td.penalized(WD), optim.Rprop): ("loss", True, r"handle\.penalty\(model\)", 0.0),
}


@pytest.mark.parametrize(
    ("decay", "cls"), list(ROUTES), ids=lambda one: repr(one) if not isinstance(one, type) else one.__name__
)
def test_the_route_of_each_form_on_each_optimizer_and_why(decay, cls):
    """The route, whether it is exact, the reason, and the number that attach writes into the group."""
    route, exact, why, written = ROUTES[decay, cls]
    lowering, _ = lowered(decay, cls)
    row = lowering["0.weight"]
    assert (row.route, row.exact) == (route, exact)
    assert re.search(why, row.why)
    assert (lowering["0.bias"].route, lowering["0.bias"].why) == ("none", "spared")
    model = make_model()
    plan = td.plan(model, decay)
    optimizer = cls(plan.param_groups(model), lr=0.5)
    td.attach(optimizer, plan)
    assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(written)


def test_lower_changes_nothing():
    """It may be asked before the decision to attach."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=0.5, weight_decay=0.02)
    before = [dict(group) for group in optimizer.param_groups]
    td.lower(td.plan(model, td.decoupled(WD), rules=()), optimizer, model=model)
    assert [{k: v for k, v in g.items() if k != "params"} for g in before] == [
        {k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups
    ]
    assert not optimizer._optimizer_step_pre_hooks


def test_via_hook_never_lowers():
    """For comparisons, and where the optimizer's own path is not trusted."""
    model = make_model()
    plan = td.plan(model, td.decoupled(WD))
    optimizer = optim.AdamW(plan.param_groups(model), lr=0.5)
    row = td.lower(plan, optimizer, via="hook")["0.weight"]
    assert (row.route, row.why) == ("hook", 'via="hook" was asked for')
    with pytest.raises(td.ApplyError, match=r'"auto" or "hook"'):
        td.lower(plan, optimizer, via="native")


def test_a_group_whose_rows_differ_runs_by_hook():
    """Groups are never split: that would break schedulers and checkpoints."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=0.5)
    lowering = td.lower(td.plan(model, td.decoupled(WD)), optimizer, model=model)
    assert {row.route for row in lowering.rows} == {"hook", "none"}
    assert "never split" in lowering["0.weight"].why
    assert len(optimizer.param_groups) == 1


def test_native_in_a_mixed_group_becomes_what_the_optimizer_would_do():
    """By hook, NATIVE is coupled under SGD and decoupled under AdamW; unknown optimizers are not guessed."""
    for cls, spelled in ((optim.SGD, td.coupled(WD)), (optim.AdamW, td.decoupled(WD))):
        model = make_model()
        plan = td.plan(model, WD)
        assert plan["0.weight"].decay == td.native(WD)
        optimizer = cls(model.parameters(), lr=0.5)
        lowering = td.lower(plan, optimizer, model=model)
        assert [decay for _, _, decay in lowering.groups[0].hooked] == [spelled, spelled]
    with pytest.raises(td.ApplyError, match=r"in Own is not known[\s\S]*nothing is guessed[\s\S]*param_groups"):
        td.lower(plan, Own(model.parameters(), lr=0.5), model=model)


def test_native_on_an_optimizer_without_weight_decay_is_refused():
    """It would do nothing, silently."""
    for cls in (optim.Rprop, optim.SparseAdam):
        with pytest.raises(td.ApplyError, match=r"no weight_decay of its own[\s\S]*td\.decoupled"):
            lowered(td.native(WD), cls)


def test_rows_are_found_by_name_and_a_typo_is_helped():
    """The lowering is read like the plan."""
    lowering, _ = lowered(td.decoupled(WD), optim.AdamW)
    with pytest.raises(td.ApplyError, match=r'no parameter "0\.wieght"[\s\S]*"0\.weight"'):
        lowering["0.wieght"]


def test_the_printed_lowering_says_route_exactness_and_reason_once_for_rows_alike():
    """One line for what is carried out alike."""
    lowering, _ = lowered(td.l1(WD), optim.RMSprop)
    lines = str(lowering).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("group 0: l1(0.1) by hook, not exact:")
    assert '"0.weight", "1.weight"' in lines[0]
    assert lines[1].startswith("group 1: spared  [")


@needs_adams_switch
@pytest.mark.parametrize("cls", [optim.Adam, optim.NAdam, optim.RAdam, optim.AdamW], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("decay", [td.coupled(WD), td.decoupled(WD)], ids=repr)
@pytest.mark.parametrize("key", [None, False, True])
def test_the_switch_of_adam_gives_the_decay_that_was_asked_for(cls, decay, key):
    """Whatever the group's key was, a step with a zero gradient shows the right kind of decay."""
    weight = nn.Parameter(torch.ones(2, dtype=torch.float64))
    group = {"params": [weight], "param_names": ["weight"]}
    if key is not None:
        group["decoupled_weight_decay"] = key
    optimizer = cls([group], lr=0.5)
    model = nn.ParameterDict({"weight": weight})
    td.attach(optimizer, td.plan(model, decay, rules=()))
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    # Coupled: the normalized gradient moves the weight by about lr, RAdam's first steps by lr·wd too.
    decoupled = torch.full_like(weight, 1 - 0.5 * WD)
    if decay == td.decoupled(WD):
        assert torch.equal(weight, decoupled)
    elif cls is not optim.RAdam:
        assert not torch.allclose(weight, decoupled)


def test_a_corrected_decay_writes_one_number_per_step():
    """η²/η_max lowers to weight_decay = λ·η/η_max."""
    decay = td.decoupled(WD).replace(scale=td.Scale.LR_SQUARED)
    model = make_model()
    plan = td.plan(model, decay, rules=())
    optimizer = optim.AdamW(plan.param_groups(model), lr=0.5)
    td.attach(optimizer, plan)
    for lr in (0.5, 0.25, 0.0, 0.125):
        optimizer.param_groups[0]["lr"] = lr
        before = model[0].weight.detach().clone()
        for param in model.parameters():
            param.grad = torch.zeros_like(param)
        optimizer.step()
        # Written as a quotient and multiplied again: one rounding more than λ·η²/η_max.
        assert torch.allclose(model[0].weight, before * (1 - WD * lr**2 / 0.5), rtol=1e-15)


@pytest.mark.parametrize(
    "decay", [td.decoupled(0.1), td.l1(0.1), td.cautious(0.1), td.penalized(0.1), td.native(0.1)], ids=str
)
def test_twice_as_many_parameters_take_twice_as_many_looks(decay, monkeypatch):
    """A model has tens of thousands of tensors, and a look at all of them for each would take minutes."""
    looks = 0

    def counted(tensor):
        nonlocal looks
        looks += 1
        return tensor.dtype in (torch.bfloat16, torch.float16)

    monkeypatch.setattr(routes, "is_low", counted)
    told = []
    for count in (50, 100):
        model = nn.ParameterList([nn.Parameter(torch.ones(2, 2)) for _ in range(count)])
        optimizer = optim.Adam(model.parameters())
        looks = 0
        lowering = td.lower(td.plan(model, decay, rules=()), optimizer, model=model)
        told.append(looks)
        assert lowering["99" if count == 100 else "49"].decay == decay
    assert told[1] <= 2 * told[0] <= 4 * 50
