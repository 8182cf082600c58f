"""`load_optimizer` gives every parameter its own state back by name and says whose weight_decay wins."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.errors import LoadError


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4))


def train(model: nn.Module, optimizer: optim.Optimizer, steps: int = 3) -> None:
    generator = torch.Generator().manual_seed(7)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4, generator=generator)).square().mean().backward()
        optimizer.step()


def moments(model: nn.Module, optimizer: optim.Optimizer, key: str = "exp_avg") -> dict[str, torch.Tensor]:
    return {
        name.removeprefix("_orig_mod.").removeprefix("module."): optimizer.state[param][key]
        for name, param in model.named_parameters()
        if param in optimizer.state
    }


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def trained(wd: float = 0.1, **options: Any) -> tuple[nn.Module, optim.Optimizer]:
    model = net()
    optimizer = optim.AdamW(td.param_groups(model, wd), lr=0.01, **options)
    train(model, optimizer)
    return model, optimizer


def each_alone(model: nn.Module, wd: float = 0.1) -> list[dict[str, Any]]:
    return [
        {"params": [p], "param_names": [name], "weight_decay": wd if name in ("0.weight", "2.weight") else 0.0}
        for name, p in model.named_parameters()
    ]


LAYOUTS: dict[str, Callable[[nn.Module], list[dict[str, Any]]]] = {
    "the same": lambda model: td.param_groups(model, 0.1),
    "groups in another order": lambda model: td.param_groups(model, 0.1)[::-1],
    "parameters in another order": lambda model: [
        group | {"params": group["params"][::-1], "param_names": group["param_names"][::-1]}
        for group in td.param_groups(model, 0.1)
    ],
    "more groups": each_alone,
    "fewer groups": lambda model: [
        {"params": list(model.parameters()), "param_names": [n for n, _ in model.named_parameters()]}
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_state_follows_the_names(layout: str) -> None:
    """Whatever the order and number of groups; and training goes on with the same bits."""
    model, optimizer = trained()
    saved = copy.deepcopy(optimizer.state_dict())
    other = copy.deepcopy(model)
    resumed = optim.AdamW(LAYOUTS[layout](other), lr=0.5)
    report = td.load_optimizer(resumed, saved)
    assert same(moments(other, resumed), moments(model, optimizer))
    assert set(report.matched) == {name for name, _ in model.named_parameters()}
    assert not report.missing and not report.unused and not report.renamed
    assert {group["lr"] for group in resumed.param_groups} == {0.01}
    if layout != "fewer groups":
        train(model, optimizer)
        train(other, resumed)
        assert same(dict(model.named_parameters()), dict(other.named_parameters()))


def test_torch_s_own_load_swaps_moments() -> None:
    """The fault that this is for: groups of equal size in another order, and torch says nothing."""
    model = net()
    swapped = optim.AdamW([{"params": [p]} for p in reversed(list(model.parameters())) if p.dim() == 2])
    plain = optim.AdamW([{"params": [p]} for p in model.parameters() if p.dim() == 2])
    train(model, plain)
    swapped.load_state_dict(plain.state_dict())
    assert not same(moments(model, swapped), moments(model, plain))


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "_fsdp_wrapped_module.", "base_model.model."])
@pytest.mark.parametrize("side", ["checkpoint", "here"])
def test_names_that_a_wrapper_has_changed(prefix: str, side: str) -> None:
    """compile, DDP, FSDP and PEFT put segments in front, when saving or when loading."""
    model, optimizer = trained()
    saved = copy.deepcopy(optimizer.state_dict())
    groups = td.param_groups(model, 0.1)
    for group in saved["param_groups"] if side == "checkpoint" else groups:
        group["param_names"] = [prefix + name for name in group["param_names"]]
    resumed = optim.AdamW(groups)
    report = td.load_optimizer(resumed, saved)
    assert same(moments(model, resumed), moments(model, optimizer))
    assert len(report.renamed) == 6 and prefix in str(report)


def test_segments_of_checkpoint_wrappers_inside_a_name() -> None:
    """Activation checkpointing puts its segment in the middle, for some layers only."""
    model, optimizer = trained()
    saved = copy.deepcopy(optimizer.state_dict())
    for group in saved["param_groups"]:
        group["param_names"] = [n.replace("2.", "2._checkpoint_wrapped_module.") for n in group["param_names"]]
    resumed = optim.AdamW(td.param_groups(model, 0.1))
    report = td.load_optimizer(resumed, saved)
    assert ("2._checkpoint_wrapped_module.weight", "2.weight") in report.renamed and len(report.matched) == 6


def test_a_compiled_model_with_its_structure() -> None:
    """model= sees through a real wrapper."""
    model, optimizer = trained()
    compiled = torch.compile(model, backend="eager")
    resumed = optim.AdamW(compiled.parameters())
    report = td.load_optimizer(resumed, optimizer.state_dict(), model=compiled)
    assert len(report.matched) == 6 and same(moments(model, resumed), moments(model, optimizer))


def test_a_child_called_module_keeps_its_name() -> None:
    """Only a prefix that all names share is a wrapper's."""
    model = nn.ModuleDict({"module": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    optimizer = optim.AdamW(td.param_groups(model, 0.1))
    report = td.load_optimizer(optimizer, optim.AdamW(td.param_groups(model, 0.1)).state_dict())
    assert len(report.matched) == 4 and not report.renamed


# Checkpoints without names


def test_a_legacy_checkpoint_of_model_parameters() -> None:
    """Known by position only: the model says which is which."""
    model = net()
    old = optim.AdamW(model.parameters(), lr=0.01)
    train(model, old)
    resumed = optim.AdamW(td.param_groups(model, 0.1))
    with pytest.raises(LoadError, match=r"no param_names.*by position only"):
        td.load_optimizer(resumed, old.state_dict())
    report = td.load_optimizer(resumed, old.state_dict(), model=model)
    assert same(moments(model, resumed), moments(model, old)) and len(report.matched) == 6


def test_a_legacy_checkpoint_of_an_old_plan() -> None:
    """The plan whose groups it was built from says which is which."""
    model = net()
    plan = td.plan(model, 0.1, rules=td.policies.timm)
    old = optim.AdamW([{k: v for k, v in group.items() if k != "param_names"} for group in plan.param_groups(model)])
    train(model, old)
    resumed = optim.AdamW(each_alone(model))
    with pytest.raises(LoadError, match=r"groups of .2, 4. parameters, model.parameters.. makes groups of .6."):
        td.load_optimizer(resumed, old.state_dict(), model=model)
    td.load_optimizer(resumed, old.state_dict(), model=model, old_plan=plan)
    assert same(moments(model, resumed), moments(model, old))


def test_an_old_plan_that_does_not_fit() -> None:
    """Other sizes of groups: refused, with both."""
    model = net()
    old = optim.AdamW(model.parameters())
    with pytest.raises(LoadError, match=r"old_plan makes groups of .2, 4."):
        td.load_optimizer(optim.AdamW(each_alone(model)), old.state_dict(), model=model, old_plan=td.plan(model, 0.1))


def test_a_checkpoint_keyed_by_name() -> None:
    """torch.distributed.checkpoint keys state and groups by name."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    model, optimizer = trained()
    saved = get_optimizer_state_dict(model, optimizer)
    resumed = optim.AdamW(each_alone(model))
    td.load_optimizer(resumed, saved)
    assert same(moments(model, resumed), moments(model, optimizer))


# Missing and new


def test_missing_and_unused_parameters_are_said() -> None:
    """A new head starts without state; what is gone is named; the rest is loaded."""
    model, optimizer = trained()
    groups = [{"params": [p], "param_names": [n]} for n, p in model.named_parameters() if n != "1.bias"]
    report = td.load_optimizer(optim.AdamW(groups), optimizer.state_dict())
    assert report.unused == ("1.bias",) and len(report.matched) == 5
    thin = optim.AdamW([{"params": [model[0].weight], "param_names": ["0.weight"]}])
    report = td.load_optimizer(optim.AdamW(each_alone(model)), thin.state_dict())
    assert report.matched == ("0.weight",) and report.missing[0] == "0.bias" and "without state" in str(report)


def test_a_new_parameter_starts_fresh_and_trains() -> None:
    """No state of another one's, and the first step makes it."""
    model, optimizer = trained()
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        group["param_names"] = ["gone" if name == "2.weight" else name for name in group["param_names"]]
    other = copy.deepcopy(model)
    resumed = optim.AdamW(td.param_groups(other, 0.1))
    report = td.load_optimizer(resumed, saved)
    assert report.missing == ("2.weight",) and report.unused == ("gone",)
    assert other[2].weight not in resumed.state
    train(other, resumed, 1)
    assert resumed.state[other[2].weight]["step"] == 1 and resumed.state[other[0].weight]["step"] == 4


def test_references_follow_the_names_and_new_parameters_begin_where_they_are() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    saved = []
    for decay in ("there", "here"):
        if decay == "here":
            model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
        plan = td.plan(model, td.toward("initial", 0.1), rules=())
        optimizer = optim.SGD(plan.param_groups(model), lr=0.1)
        handle = td.attach(optimizer, plan, model=model, save_references=True)
        saved.append((copy.deepcopy(optimizer.state_dict()), copy.deepcopy(handle.state_dict())))
    report = td.load_optimizer(optimizer, saved[0][0], model=model)
    assert report.missing == ("2.weight", "2.bias")
    assert same(handle.state_dict(), saved[1][1] | saved[0][1])
    handle.remove()
    handle = td.attach(optimizer, plan, model=model)
    with pytest.raises(LoadError, match=r'"2.weight"[\s\S]*handle\.state_dict\(\) \| saved'):
        handle.load_state_dict(saved[0][1])


# Whose weight_decay wins


@pytest.mark.parametrize(("winner", "now"), [("plan", 0.3), ("checkpoint", 0.1)])
def test_the_winner_is_the_one_that_was_said(winner: Any, now: float) -> None:
    """And the report has both values and who won."""
    model, optimizer = trained(0.1)
    resumed = optim.AdamW(td.param_groups(model, 0.3))
    report = td.load_optimizer(resumed, optimizer.state_dict(), weight_decay=winner)
    assert [group["weight_decay"] for group in resumed.param_groups] == [now, 0.0]
    assert report.weight_decay == ((0, 0.1, 0.3, now),)
    assert f"0.1 in the checkpoint, 0.3 here: {now} now" in str(report)


def test_equal_means_equal() -> None:
    """Differing is an error that changes nothing; the same is fine."""
    model, optimizer = trained(0.1)
    resumed = optim.AdamW(td.param_groups(model, 0.3), lr=0.7)
    with pytest.raises(LoadError, match=r"weight_decay is 0.1 in the checkpoint and 0.3 here"):
        td.load_optimizer(resumed, optimizer.state_dict(), weight_decay="equal")
    assert not resumed.state and resumed.param_groups[0]["lr"] == 0.7
    td.load_optimizer(optim.AdamW(td.param_groups(model, 0.1)), optimizer.state_dict(), weight_decay="equal")


def test_a_group_can_not_have_two() -> None:
    """Parameters that had different values then and share a group now."""
    model, optimizer = trained()
    resumed = optim.AdamW(LAYOUTS["fewer groups"](model), weight_decay=0.2)
    with pytest.raises(LoadError, match="a group has one only"):
        td.load_optimizer(resumed, optimizer.state_dict(), weight_decay="checkpoint")
    report = td.load_optimizer(resumed, optimizer.state_dict())
    assert report.weight_decay == ((0, (0.1, 0.0), 0.2, 0.2),) and resumed.param_groups[0]["weight_decay"] == 0.2


def test_options_that_disagree_are_said() -> None:
    """Groups with two learning rates that became one keep the one that stands here."""
    model, optimizer = trained()
    optimizer.param_groups[1]["lr"] = 0.02
    resumed = optim.AdamW(LAYOUTS["fewer groups"](model), lr=0.5)
    report = td.load_optimizer(resumed, optimizer.state_dict())
    assert report.options == ((0, "lr", (0.01, 0.02), 0.5),) and "0.5 kept" in str(report)


@pytest.mark.parametrize(("winner", "decoupled"), [("plan", True), ("checkpoint", False)])
def test_coupled_or_decoupled_goes_with_weight_decay(winner: Any, decoupled: bool) -> None:
    """A checkpoint of coupled Adam does not silently make decoupled Adam coupled."""
    model = net()
    old = optim.Adam(td.param_groups(model, 0.1))
    train(model, old)
    resumed = optim.Adam(td.param_groups(model, 0.1), decoupled_weight_decay=True)
    report = td.load_optimizer(resumed, old.state_dict(), weight_decay=winner)
    assert {group["decoupled_weight_decay"] for group in resumed.param_groups} == {decoupled}
    assert bool(report.options) == (winner == "plan")


# With a plan attached


def under(decay: td.Decay, model: nn.Module, *, reverse: bool = False, **given: Any) -> tuple[Any, td.Handle]:
    plan = td.plan(model, decay)
    groups = plan.param_groups(model)
    optimizer = optim.SGD(groups[::-1] if reverse else groups, lr=0.1, momentum=0.9)
    return optimizer, td.attach(optimizer, plan, **given)


def test_counters_peaks_and_scalars_follow_their_groups() -> None:
    """The resumed run goes on as if it had never stopped, to the bit, though its groups stand in another order."""
    schedule = td.schedules.linear(1.0, 0.0, 10)
    decay = td.independent(0.01, schedule=schedule)
    model = net()
    optimizer, _ = under(decay, model)
    train(model, optimizer)
    saved, other = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model)
    resumed, handle = under(decay, other, reverse=True)
    td.load_optimizer(resumed, saved)
    assert [handle.steps(index) for index in range(2)] == [3, 3]
    assert handle.max_lr(1) == 0.1
    train(model, optimizer)
    train(other, resumed)
    assert same(dict(model.named_parameters()), dict(other.named_parameters()))


def test_scalars_of_controllers_follow_their_parameters() -> None:
    """Multipliers of constrained decay are kept by name."""
    decay = td.forms.constrained(kappa_initial=0.5)
    model = net()
    optimizer, _ = under(decay, model)
    train(model, optimizer)
    saved, other = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model)
    resumed, _ = under(decay, other, reverse=True)
    td.load_optimizer(resumed, saved)
    assert resumed.state_dict()["torchdecay"]["scalars"] == saved["torchdecay"]["scalars"]


def test_counters_survive_in_the_marks_alone() -> None:
    """torch.distributed.checkpoint keeps the groups and drops what stands beside them."""
    model = net()
    decay = td.independent(0.01)
    optimizer, _ = under(decay, model)
    train(model, optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    del saved["torchdecay"]
    resumed, handle = under(decay, copy.deepcopy(model), reverse=True)
    td.load_optimizer(resumed, saved)
    assert [handle.steps(index) for index in range(2)] == [3, 3]


def test_groups_that_counted_differently_do_not_become_one() -> None:
    """One count for both would shift the schedule of the one or the other; a peak is found again."""
    ramp, model = td.schedules.linear(1.0, 0.0, 10), net()
    optimizer, _ = under(td.independent(0.01, schedule=ramp), model)
    train(model, optimizer)
    saved = copy.deepcopy(optimizer.state_dict())

    def merged() -> tuple[optim.Optimizer, td.Handle]:
        plan = td.plan(model, td.independent(0.01, schedule=ramp))
        optimizer = optim.SGD(model.named_parameters(), lr=0.1, momentum=0.9)
        return optimizer, td.attach(optimizer, plan, model=model)

    resumed, handle = merged()
    td.load_optimizer(resumed, saved)
    assert (handle.steps(0), handle.max_lr(0)) == (3, 0.1)
    saved["torchdecay"]["groups"][1]["steps"] = 2
    resumed, handle = merged()
    with pytest.raises(LoadError, match="2 and 3 steps"):
        td.load_optimizer(resumed, saved)
    assert handle.steps(0) == 0 and not resumed.state


def test_another_form_is_refused_before_anything_changes() -> None:
    """Not only here but with the attached plan's own check."""
    model = net()
    optimizer, _ = under(td.decoupled(0.1), model)
    train(model, optimizer)
    resumed, _ = under(td.l1(0.1), model)
    with pytest.raises(LoadError, match="another plan"):
        td.load_optimizer(resumed, optimizer.state_dict())
    assert not resumed.state


@pytest.mark.parametrize(("on_load", "now"), [("plan", 0.3), ("checkpoint", 0.1)])
def test_the_handle_decides(on_load: Any, now: float) -> None:
    """And the report tells what came out; another winner beside it is refused."""
    model = net()
    plan = td.plan(model, td.decoupled(0.1))
    optimizer = optim.AdamW(plan.param_groups(model), lr=0.01)
    td.attach(optimizer, plan)
    train(model, optimizer)
    other = td.plan(model, td.decoupled(0.3))
    resumed = optim.AdamW(other.param_groups(model), lr=0.01)
    td.attach(resumed, other, on_load=on_load)
    for winner in ("checkpoint", "equal"):
        with pytest.raises(LoadError, match="a plan is attached, which owns weight_decay"):
            td.load_optimizer(resumed, optimizer.state_dict(), weight_decay=winner)
    report = td.load_optimizer(resumed, optimizer.state_dict())
    assert [group["weight_decay"] for group in resumed.param_groups] == [now, 0.0]
    assert report.weight_decay == ((0, 0.1, 0.3, now),)


def test_a_checkpoint_of_a_plan_into_a_plain_optimizer_is_not_marked() -> None:
    """It carries no hooks, and must not look as if it had lost some."""
    model = net()
    optimizer, _ = under(td.decoupled(0.1), model)
    train(model, optimizer)
    plain = optim.SGD(td.param_groups(model, 0.1), lr=0.1, momentum=0.9)
    td.load_optimizer(plain, optimizer.state_dict())
    assert not any("torchdecay" in group for group in plain.param_groups)


# Other optimizers


@pytest.mark.parametrize(
    "make",
    [
        lambda groups: optim.SGD(groups, lr=0.1, momentum=0.9),
        lambda groups: optim.Adafactor(groups),
        lambda groups: optim.Rprop(groups),
        lambda groups: optim.Adagrad(groups),
        lambda groups: optim.RMSprop(groups, momentum=0.9, centered=True),
        lambda groups: optim.ASGD(groups),
        lambda groups: optim.AdamW(groups, amsgrad=True),
    ],
    ids=["SGD", "Adafactor", "Rprop", "Adagrad", "RMSprop", "ASGD", "AMSGrad"],
)
def test_every_kind_of_state_goes_along(make: Callable[[Any], optim.Optimizer]) -> None:
    """Factored, scalar and elementwise state; training goes on with the same bits."""
    model = net()
    optimizer = make([{"params": [p], "param_names": [n]} for n, p in model.named_parameters()])
    train(model, optimizer)
    saved, other = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model)
    resumed = make([{"params": [p], "param_names": [n]} for n, p in reversed(list(other.named_parameters()))])
    td.load_optimizer(resumed, saved)
    train(model, optimizer)
    train(other, resumed)
    assert same(dict(model.named_parameters()), dict(other.named_parameters()))


def test_lbfgs_only_in_its_own_order() -> None:
    """Its state is one long vector, which names can't take apart."""
    model = nn.Linear(3, 3)
    optimizer = optim.LBFGS(list(model.named_parameters()))
    optimizer.step(lambda: _loss(model, optimizer))
    td.load_optimizer(optim.LBFGS(list(model.named_parameters())), optimizer.state_dict())
    with pytest.raises(LoadError, match="one long vector"):
        td.load_optimizer(optim.LBFGS(list(model.named_parameters())[::-1]), optimizer.state_dict())


def _loss(model: nn.Module, optimizer: optim.Optimizer) -> torch.Tensor:
    optimizer.zero_grad()
    loss: torch.Tensor = model(torch.ones(2, 3)).square().mean()
    loss.backward()
    return loss


# Wrong inputs change nothing


def edited(**changes: Any) -> dict[str, Any]:
    _, optimizer = trained()
    return copy.deepcopy(optimizer.state_dict()) | changes


def two_names() -> dict[str, Any]:
    saved = edited()
    saved["param_groups"][0]["param_names"] = ["only one"]
    return saved


def other_shape() -> dict[str, Any]:
    saved = edited()
    saved["state"][0]["exp_avg"] = torch.zeros(3, 3)
    return saved


def strangers() -> dict[str, Any]:
    saved = edited()
    for group in saved["param_groups"]:
        group["param_names"] = [f"encoder.{name}" for name in group["param_names"]]
    return saved


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: None, "no optimizer's state dict"),
        (lambda: [], "no optimizer's state dict"),
        (lambda: {}, "no optimizer's state dict"),
        (lambda: net().state_dict(), "no optimizer's state dict"),
        (lambda: {"param_groups": "abc", "state": {}}, "no optimizer's state dict"),
        (lambda: {"param_groups": [{"lr": 1}], "state": {}}, "no optimizer's state dict"),
        (lambda: edited(state=[]), "no optimizer's state dict"),
        (two_names, "2 parameters and 1 names"),
        (other_shape, "of shape .4, 4., its exp_avg in the checkpoint of .3, 3."),
        (strangers, "none of this optimizer's parameters"),
    ],
)
def test_what_is_no_checkpoint_of_this_changes_nothing(make: Callable[[], Any], said: str) -> None:
    """One message, and the optimizer as it was."""
    _, optimizer = trained()
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(LoadError, match=said):
        td.load_optimizer(optimizer, make())
    after = optimizer.state_dict()
    assert before["param_groups"] == after["param_groups"]
    assert all(torch.equal(before["state"][k]["exp_avg"], after["state"][k]["exp_avg"]) for k in before["state"])


def test_an_unknown_winner() -> None:
    """Refused before anything is read."""
    _, optimizer = trained()
    with pytest.raises(LoadError, match='Write "plan", "checkpoint" or "equal"'):
        td.load_optimizer(optimizer, optimizer.state_dict(), weight_decay="mine")  # type: ignore[arg-type]


def test_an_optimizer_without_names_needs_the_model() -> None:
    """Said, with both ways out."""
    model, optimizer = trained()
    with pytest.raises(LoadError, match="group 0 of the optimizer has no param_names"):
        td.load_optimizer(optim.AdamW(model.parameters()), optimizer.state_dict())


def test_the_checkpoint_itself_is_not_changed() -> None:
    """It may be loaded again elsewhere."""
    model, optimizer = trained()
    saved = optimizer.state_dict()
    before = copy.deepcopy(saved)
    td.load_optimizer(optim.AdamW(each_alone(model)), saved)
    assert saved["param_groups"] == before["param_groups"] and saved["state"].keys() == before["state"].keys()


# Of another optimizer

MADE: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda groups: optim.SGD(groups, lr=0.1),
    "SGD momentum": lambda groups: optim.SGD(groups, lr=0.1, momentum=0.9),
    "Adam": optim.Adam,
    "AdamW": optim.AdamW,
    "NAdam": optim.NAdam,
    "Adamax": optim.Adamax,
    "Adagrad": optim.Adagrad,
    "RMSprop": lambda groups: optim.RMSprop(groups, momentum=0.9),
    "ASGD": optim.ASGD,
    "Rprop": optim.Rprop,
    "Adafactor": optim.Adafactor,
}
FAMILIES = [{"SGD", "SGD momentum"}, {"Adam", "AdamW"}]


@pytest.mark.parametrize("here", MADE)
@pytest.mark.parametrize("there", MADE)
def test_a_checkpoint_of_another_class_is_refused_and_changes_nothing(there: str, here: str) -> None:
    """Moments that mean something else, or nothing; Adam's and AdamW's mean the same."""
    model = net()
    saved, kept = (MADE[name](td.param_groups(model, 0.1)) for name in (there, here))
    train(model, saved, 1)
    train(model, kept, 1)
    before = copy.deepcopy(kept.state_dict())
    if here == there or any({here, there} <= family for family in FAMILIES):
        td.load_optimizer(kept, saved.state_dict())
        train(model, kept, 1)
        return
    with pytest.raises(LoadError, match=f"the checkpoint is not of {here.split()[0]}"):
        td.load_optimizer(kept, saved.state_dict())
    after = kept.state_dict()
    assert repr(before) == repr(after)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "pair",
    [
        (td.forms.constrained(kappa_initial=0.5), td.forms.constrained(kappa_initial=0.25)),
        (td.forms.norm_control(0.5), td.forms.constrained(kappa_initial=0.25)),
        (td.forms.ada_decay(0.1, alpha=2.0), td.forms.adaptive(0.1)),
    ],
    ids=str,
)
def test_each_controller_gets_its_own_state_back(pair: tuple[td.Decay, td.Decay], reverse: bool) -> None:
    """Whatever the order of the groups: the run goes on bit for bit."""
    model = net()
    plan = td.plan(model, None, rules=[("0.*", pair[0]), ("2.*", pair[1])])

    def job(model: nn.Module, reverse: bool) -> optim.Optimizer:
        groups = plan.param_groups(model)
        optimizer = optim.SGD(groups[::-1] if reverse else groups, lr=0.1)
        td.attach(optimizer, plan)
        return optimizer

    optimizer = job(model, False)
    train(model, optimizer)
    saved, other = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model)
    resumed = job(other, reverse)
    td.load_optimizer(resumed, saved)
    train(model, optimizer)
    train(other, resumed)
    assert same(dict(model.named_parameters()), dict(other.named_parameters()))


# Before a plan is attached


@pytest.mark.parametrize("decay", [td.decoupled(0.1), td.toward("initial", 0.1), td.forms.constrained(kappa_initial=1)])
def test_a_plan_that_is_attached_after_the_load_goes_on(decay: td.Decay) -> None:
    """Loaded by name into other groups: steps, controllers and references are there for `attach`, in their order."""
    decay = decay.replace(schedule=td.schedules.linear(1.0, 0.0, 8))
    model = net()
    optimizer = optim.AdamW(td.param_groups(model, 0.0), lr=0.1)
    td.attach(optimizer, decay, model=model, save_references=True)
    train(model, optimizer)
    saved, other = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model)
    resumed = optim.AdamW(td.param_groups(other, 0.0)[::-1], lr=0.1)
    td.load_optimizer(resumed, saved)
    assert not any("torchdecay" in group for group in resumed.param_groups)
    handle = td.attach(resumed, decay, model=other)
    assert handle.steps(0) == 3
    train(model, optimizer)
    train(other, resumed)
    assert same(dict(model.named_parameters()), dict(other.named_parameters()))


def test_the_0_that_a_plan_wrote_is_no_weight_decay_of_a_checkpoint() -> None:
    """Without the plan it would mean that nothing decays; what ran natively is the number that it was."""
    for decay, now in ((td.l1(0.1), None), (td.decoupled(0.1), 0.1)):
        model = net()
        optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.3)
        td.attach(optimizer, td.plan(model, decay, rules=td.policies.torch), model=model)
        fresh = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.3)
        if now is None:
            with pytest.raises(LoadError, match=r"is 0 in the checkpoint because a plan carried l1\(0.1\)"):
                td.load_optimizer(fresh, optimizer.state_dict(), weight_decay="checkpoint", model=model)
            assert fresh.param_groups[0]["weight_decay"] == 0.3
        else:
            td.load_optimizer(fresh, optimizer.state_dict(), weight_decay="checkpoint", model=model)
            assert fresh.param_groups[0]["weight_decay"] == now


def scheduled(model: nn.Module, optimizer: optim.Optimizer) -> td.Handle:
    """Under a plan that counts, and by a controller that remembers."""
    decay = td.forms.constrained(kappa_initial=0.8).replace(schedule=td.schedules.linear(1.0, 0.0, 8))
    return td.attach(optimizer, decay, model=model)


LATER: dict[str, Callable[[nn.Module, optim.Optimizer], tuple[nn.Module, optim.Optimizer]]] = {
    "copied": lambda model, optimizer: copy.deepcopy((model, optimizer)),
    "pickled": lambda model, optimizer: pickle.loads(pickle.dumps((model, optimizer))),
}


@pytest.mark.parametrize("how", [*LATER, "saved again"])
def test_what_was_loaded_by_name_waits_for_a_plan_in_copies_and_checkpoints(how: str) -> None:
    """A checkpoint that is laid out anew in a process of its own keeps its counters and controllers."""
    model = net()
    optimizer = optim.AdamW(td.param_groups(model, 0.0), lr=0.1)
    scheduled(model, optimizer)
    train(model, optimizer)
    other = copy.deepcopy(model)
    resumed = optim.AdamW(td.param_groups(other, 0.0)[::-1], lr=0.1)
    td.load_optimizer(resumed, copy.deepcopy(optimizer.state_dict()))
    if how == "saved again":
        saved = copy.deepcopy(resumed.state_dict())
        resumed = optim.AdamW(td.param_groups(other, 0.0)[::-1], lr=0.1)
        handle = scheduled(other, resumed)
        resumed.load_state_dict(saved)
    else:
        other, resumed = LATER[how](other, resumed)
        handle = scheduled(other, resumed)
    assert "torchdecay" not in vars(resumed)
    train(model, optimizer)
    train(other, resumed)
    assert handle.steps(0) == 6
    assert same(dict(model.named_parameters()), dict(other.named_parameters()))


def test_a_load_by_name_mends_one_by_place() -> None:
    """What torch's own load left in the groups is of a checkpoint in another order, or of an older one."""
    model = net()
    optimizer = optim.AdamW(each_alone(model), lr=0.1)
    scheduled(model, optimizer)
    older = copy.deepcopy(optimizer.state_dict())
    train(model, optimizer)
    saved = optimizer.state_dict()
    for first in (older, saved):
        other = copy.deepcopy(model)
        resumed = optim.AdamW(each_alone(other)[::-1], lr=0.1)
        resumed.load_state_dict(copy.deepcopy(first))
        with pytest.raises(LoadError, match=r"Load it by name: td\.load_optimizer"):
            scheduled(other, resumed)
        td.load_optimizer(resumed, copy.deepcopy(saved), model=other)
        assert scheduled(other, resumed).steps(0) == 3
        twin, stepping = copy.deepcopy((model, optimizer))
        scheduled(twin, stepping)
        train(twin, stepping)
        train(other, resumed)
        assert same(dict(twin.named_parameters()), dict(other.named_parameters()))


class Wrapped(nn.Module):
    """Of a class that nobody knows, so that it is part of what a plan calls a parameter."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


AROUND = [(nn.DataParallel, None), (None, nn.DataParallel), (Wrapped, None), (None, Wrapped)]
ATTACHED = [(around, how) for around in AROUND for how in ("before", "after", "after, with the model")]
# Without the model nobody knows then what a plan will call them.
ATTACHED.remove(((None, Wrapped), "after"))


@pytest.mark.parametrize(("around", "attached"), ATTACHED)
@pytest.mark.parametrize("decay", [td.forms.norm_control(0.4, ratio=0.7), td.toward("initial", 0.3)], ids=repr)
def test_what_a_plan_remembers_follows_a_parameter_to_another_name(decay: td.Decay, around: Any, attached: str) -> None:
    """Not its moments alone: the norms that it began with, and where it began."""
    weights = []
    for goes_on in (True, False):
        torch.manual_seed(0)
        model = net()
        outer, inner = ((lambda one: one) if one is None else one for one in around)
        seen = outer(model)
        optimizer = optim.SGD([*seen.named_parameters()], lr=0.1, momentum=0.9)
        td.attach(optimizer, td.plan(seen, decay), model=seen, save_references=True)
        train(model, optimizer)
        if not goes_on:
            saved, model = copy.deepcopy((optimizer.state_dict(), model))
            seen = inner(model)
            optimizer = optim.SGD([*seen.named_parameters()][::-1], lr=0.1, momentum=0.9)
            if attached == "before":
                td.attach(optimizer, td.plan(seen, decay), model=seen)
            report = td.load_optimizer(optimizer, saved, model=seen if "with" in attached else None)
            assert not report.missing and not report.unused
            if attached != "before":
                td.attach(optimizer, td.plan(seen, decay), model=seen)
        train(model, optimizer)
        weights.append(dict(model.named_parameters()))
    assert same(*weights)
