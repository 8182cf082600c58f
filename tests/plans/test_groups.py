"""Parameter groups: what any torch optimizer's constructor takes, with every trainable weight in exactly one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import nn
from torch.optim import Optimizer

import torchdecay as td
from plans.examples import Deep, TiedModel, choices, models, rules
from torchdecay.errors import DecayError, PlanError
from torchdecay.plans.groups import MARK, needs_attach

pytestmark = pytest.mark.filterwarnings("ignore::torchdecay.UnknownRoleWarning")


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))


def group_of(groups: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = [group for group in groups if name in group["param_names"]]
    return found


# ── Every weight once ──


def assert_sound(groups: list[dict[str, Any]], model: nn.Module) -> None:
    """Each trainable tensor in exactly one group, none empty, names beside tensors, no two groups alike."""
    tensors = [id(p) for group in groups for p in group["params"]]
    assert sorted(tensors) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert all(group["params"] for group in groups)
    named = dict(model.named_parameters(remove_duplicate=False))
    for group in groups:
        assert all(named[name] is p for name, p in zip(group["param_names"], group["params"], strict=True))
    settings = [{k: v for k, v in g.items() if k not in ("params", "param_names")} for g in groups]
    assert all(settings[i] != settings[j] for i in range(len(settings)) for j in range(i))


@given(model=models(), decay=choices, ordered=rules)
def test_every_trainable_weight_is_in_exactly_one_group_whatever_the_rules(
    model: nn.Module, decay: Any, ordered: Any
) -> None:
    """No weight is lost, none doubled, none frozen taken along, no group empty, and equal settings share a group."""
    if not (decay is None or isinstance(decay, (float, td.Decay))):
        decay = 0.1
    try:
        groups = td.param_groups(model, decay, rules=ordered)
    except DecayError:
        # times() lifted a fraction per step above 1.
        return
    assert_sound(groups, model)
    torch.optim.AdamW(groups)


@pytest.mark.parametrize("fault", ["lost", "doubled", "frozen", "empty", "misnamed", "split"])
def test_the_soundness_check_sees_each_fault(fault: str) -> None:
    """The property above can fail: each seeded fault is caught."""
    model = mlp()
    model[2].bias.requires_grad_(False)
    groups = td.param_groups(model, 0.1)
    assert_sound(groups, model)
    if fault == "lost":
        groups[0]["params"].pop()
        groups[0]["param_names"].pop()
    elif fault == "doubled":
        groups[1]["params"].append(groups[0]["params"][0])
        groups[1]["param_names"].append(groups[0]["param_names"][0])
    elif fault == "frozen":
        groups[1]["params"].append(model[2].bias)
        groups[1]["param_names"].append("2.bias")
    elif fault == "empty":
        groups.append({"params": [], "param_names": [], "weight_decay": 0.7})
    elif fault == "misnamed":
        groups[0]["param_names"].reverse()
    else:
        parts = {key: [groups[0][key].pop()] for key in ("params", "param_names")}
        groups.append(groups[0] | parts)
    with pytest.raises((AssertionError, KeyError)):
        assert_sound(groups, model)


# ── What a group says ──


def test_groups_are_few_and_say_what_decays() -> None:
    """Two groups for the usual case, however many layers, in the order of the model."""
    model = Deep(20)
    groups = td.param_groups(model, 0.1)
    assert [group["weight_decay"] for group in groups] == [0.0, 0.1]
    assert len(groups[1]["params"]) == 20 * 4 + 1


def test_equal_settings_share_a_group_however_they_came_about() -> None:
    """A rule's lr that is the common lr, and native(0) beside spared, make no group of their own."""
    ordered = [td.rule("0.weight", lr=0.1), td.rule("0.bias", td.native(0.0)), *td.STANDARD]
    groups = td.param_groups(mlp(), 0.2, rules=ordered, lr=0.1)
    assert len(groups) == 2
    assert group_of(groups, "0.weight") is group_of(groups, "2.weight")
    assert group_of(groups, "0.bias") is group_of(groups, "1.weight")


def test_unlike_settings_do_not_share_a_group() -> None:
    """A value, an option, or the presence of an option tells them apart."""
    ordered = [
        td.rule("0.weight", lr=0.5),
        td.rule("2.weight", 0.3),
        td.rule("0.bias", None, momentum=0.0),
        *td.STANDARD,
    ]
    groups = td.param_groups(mlp(), 0.2, rules=ordered, lr=0.1)
    assert len(groups) == 4
    assert group_of(groups, "0.weight")["lr"] == 0.5
    assert group_of(groups, "1.bias")["lr"] == 0.1
    assert group_of(groups, "0.bias")["momentum"] == 0.0
    assert "momentum" not in group_of(groups, "1.bias")


def test_options_that_do_not_hash_are_compared() -> None:
    """Lists are equal by content; tensors are never merged, because each may be filled on its own later."""
    ordered = [td.rule("0.weight", betas=[0.9, 0.99]), td.rule("2.weight", betas=[0.9, 0.99]), *td.STANDARD]
    assert len(td.param_groups(mlp(), 0.2, rules=ordered)) == 2
    one, two = torch.tensor(0.1), torch.tensor(0.1)
    apart = td.param_groups(mlp(), 0.2, rules=[td.rule("0.weight", lr=one), td.rule("2.weight", lr=two), *td.STANDARD])
    assert group_of(apart, "0.weight")["lr"] is one
    assert group_of(apart, "2.weight")["lr"] is two
    together = td.param_groups(mlp(), 0.2, rules=[td.rule("*.weight", lr=one), *td.STANDARD])
    assert group_of(together, "0.weight") is group_of(together, "2.weight")


@pytest.mark.parametrize(
    "decay", [td.decoupled(0.1), td.coupled(0.1), td.l1(0.1), td.native(0.1, schedule=td.schedules.warmup(3))], ids=repr
)
def test_what_a_constructor_cannot_carry_out_is_marked_and_off(decay: td.Decay) -> None:
    """Handed to an optimizer without attach it does nothing, and the mark lets audit say so: never half of it."""
    assert needs_attach(decay)
    group = group_of(td.param_groups(mlp(), decay), "0.weight")
    assert group["weight_decay"] == 0.0
    assert group[MARK] == f"not attached: {decay!r}"
    assert MARK not in group_of(td.param_groups(mlp(), decay), "0.bias")


def test_native_needs_no_attach_and_no_mark() -> None:
    """The optimizer does it."""
    assert not needs_attach(td.native(0.1))
    assert not needs_attach(None)
    assert all(MARK not in group for group in td.param_groups(mlp(), 0.1))


def test_weight_decay_is_always_said() -> None:
    """A group without the key would get the optimizer's default: AdamW's is 0.01, Muon's 0.1."""
    for decay in (0.1, None, td.decoupled(0.1)):
        assert all("weight_decay" in group for group in td.param_groups(mlp(), decay))
    optimizer = torch.optim.AdamW(td.param_groups(mlp(), None))
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0}


def test_a_tied_weight_is_in_one_group_once() -> None:
    """Twice in an optimizer it would decay twice, with no more than a warning from torch."""
    model = TiedModel()
    groups = td.param_groups(model, 0.1)
    assert_sound(groups, model)
    assert group_of(groups, "embed.weight")["params"][0] is model.head.weight


def test_wrappers_do_not_change_the_names() -> None:
    """A plan of the plain model fits the averaged and the data-parallel one."""
    model = mlp()
    plan = td.plan(model, 0.1)
    for wrapped in (nn.DataParallel(model), torch.optim.swa_utils.AveragedModel(model)):
        groups = plan.param_groups(wrapped)
        assert [group["param_names"] for group in groups] == [g["param_names"] for g in plan.param_groups(model)]


# ── M2.4: options pass through ──

OPTIMIZERS: list[tuple[type[Optimizer], dict[str, Any], dict[str, Any]]] = [
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.01, "momentum": 0.5, "nesterov": True}),
    (torch.optim.Adam, {"lr": 0.1}, {"lr": 0.01, "betas": (0.5, 0.6), "eps": 1e-3}),
    (torch.optim.AdamW, {"lr": 0.1}, {"lr": 0.01, "betas": (0.5, 0.6), "amsgrad": True}),
    (torch.optim.NAdam, {"lr": 0.1}, {"lr": 0.01, "momentum_decay": 0.1}),
    (torch.optim.RAdam, {"lr": 0.1}, {"lr": 0.01, "betas": (0.5, 0.6)}),
    (torch.optim.Adamax, {"lr": 0.1}, {"lr": 0.01, "eps": 1e-2}),
    (torch.optim.RMSprop, {"lr": 0.1}, {"lr": 0.01, "momentum": 0.5, "centered": True}),
    (torch.optim.Adagrad, {"lr": 0.1}, {"lr": 0.01, "eps": 1e-2}),
    (torch.optim.Adadelta, {"lr": 0.1}, {"lr": 0.01, "rho": 0.5}),
    (torch.optim.ASGD, {"lr": 0.1}, {"lr": 0.01, "alpha": 0.5}),
]


def train(model: nn.Module, optimizer: Optimizer, steps: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(7)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 4)).square().sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize(("make", "common", "head"), OPTIMIZERS, ids=lambda case: getattr(case, "__name__", ""))
def test_m2_4_any_option_reaches_the_optimizer_and_acts(
    make: type[Optimizer], common: dict[str, Any], head: dict[str, Any]
) -> None:
    """lr, momentum, betas and the rest: stepped, it is bit for bit the optimizer built by hand from plain dicts."""
    ours, theirs, plain = (copy.deepcopy(m) for m in [mlp()] * 3)
    ordered = [td.rule("2.weight", 0.2, **head), td.rule("2.bias", None, **head), *td.STANDARD]
    optimizer = make(td.param_groups(ours, 0.1, rules=ordered, **common))  # type: ignore[call-arg]
    by_hand = make(  # type: ignore[call-arg]
        [
            {"params": [theirs[0].weight], "weight_decay": 0.1, **common},
            {"params": [theirs[0].bias, theirs[1].weight, theirs[1].bias], "weight_decay": 0.0, **common},
            {"params": [theirs[2].weight], "weight_decay": 0.2, **common, **head},
            {"params": [theirs[2].bias], "weight_decay": 0.0, **common, **head},
        ]
    )
    found = group_of(optimizer.param_groups, "2.weight")
    assert all(found[key] == value for key, value in head.items())
    expected = train(theirs, by_hand)
    assert all(torch.equal(a, b) for a, b in zip(train(ours, optimizer), expected, strict=True))
    # Without the options the weights end elsewhere, so that the equality above means something.
    bare = td.param_groups(plain, 0.1, rules=[td.rule("2.weight", 0.2), *td.STANDARD], **common)
    without = train(plain, make(bare))  # type: ignore[call-arg]
    assert not torch.equal(without[-2], expected[-2])


def test_m2_4_options_of_spared_parameters_pass_too() -> None:
    """An option is for whom the rule picks, decayed or not."""
    groups = td.param_groups(mlp(), 0.1, rules=[td.rule("*.bias", None, lr=0.7), *td.STANDARD], lr=0.1)
    assert (group_of(groups, "0.bias")["lr"], group_of(groups, "1.weight")["lr"]) == (0.7, 0.1)


def test_m2_4_an_option_that_torch_does_not_know_passes_as_well() -> None:
    """Schedulers and trainers read keys of their own (lr_scale, say)."""
    groups = td.param_groups(mlp(), 0.1, rules=[td.rule("0.*", td.DEFAULT, lr_scale=0.5), *td.STANDARD[1:]])
    optimizer = torch.optim.SGD(groups, lr=0.1)
    assert group_of(optimizer.param_groups, "0.weight")["lr_scale"] == 0.5


# ── Another model ──


class Renamed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()


def unfrozen() -> tuple[td.Plan, nn.Module]:
    model = mlp()
    model[0].requires_grad_(False)
    plan = td.plan(model, 0.1)
    model[0].requires_grad_(True)
    return plan, model


def untied() -> tuple[td.Plan, nn.Module]:
    model = TiedModel()
    plan = td.plan(model, 0.1)
    model.head.weight = nn.Parameter(model.head.weight.detach().clone())
    return plan, model


def tied_since() -> tuple[td.Plan, nn.Module]:
    model = TiedModel()
    model.head.weight = nn.Parameter(model.head.weight.detach().clone())
    plan = td.plan(model, 0.1)
    model.head.weight = model.embed.weight
    return plan, model


@pytest.mark.parametrize(
    ("plan", "model", "says"),
    [
        (td.plan(mlp(), 0.1), Renamed(), r'no "0\.weight"(.|\n)*Nearest: "body\.0\.weight"'),
        (td.plan(mlp(), 0.1), nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)), r'no "2\.weight"'),
        (td.plan(mlp(), 0.1), nn.Sequential(nn.Linear(5, 3), *mlp()[1:]), r"\(3, 5\) here, \(3, 4\)"),
        (td.plan(mlp(), 0.1), nn.Sequential(*mlp(), nn.Linear(2, 2)), r'no row for "3\.weight"'),
        (*unfrozen(), r'no row for "0\.weight", "0\.bias"(.|\n)*frozen'),
        (*untied(), r'"head\.weight" was tied to "embed\.weight"(.|\n)*no group'),
        (*tied_since(), r'"embed\.weight", "head\.weight" are one tied tensor here(.|\n)*decay twice'),
    ],
    ids=["renamed", "smaller", "reshaped", "larger", "newly unfrozen", "untied", "newly tied"],
)
def test_a_plan_for_another_model_is_refused(plan: td.Plan, model: nn.Module, says: str) -> None:
    """A weight would be in no group (and never be trained), in two, or under another's decay."""
    with pytest.raises(PlanError, match=says) as caught:
        plan.param_groups(model)
    assert "the plan was made for another model" in str(caught.value)


def test_a_plan_fits_a_copy_of_its_model_and_a_model_frozen_since() -> None:
    """Values and identities may change, names and shapes may not; what was frozen later is left to the optimizer."""
    model = mlp()
    plan = td.plan(model, 0.1)
    again = copy.deepcopy(model)
    assert_sound(plan.param_groups(again), again)
    again[0].requires_grad_(False)
    assert len(plan.param_groups(again)) == 2


@pytest.mark.parametrize(
    "bad", [None, mlp().parameters(), mlp().state_dict(), nn.Linear], ids=lambda b: type(b).__name__
)
def test_groups_are_made_from_a_model(bad: Any) -> None:
    """Parameters or a state dict have no names to go by."""
    with pytest.raises(PlanError, match="where a model belongs"):
        td.plan(mlp(), 0.1).param_groups(bad)


# ── Beside the groups of others ──


def test_groups_without_names_are_joined_by_others() -> None:
    """torch refuses a group without names beside groups with them, in the middle of a run where that comes late."""
    model = mlp()
    late = nn.Linear(2, 2)
    named = torch.optim.SGD(td.param_groups(model, 0.1), lr=0.1)
    with pytest.raises(ValueError, match="names"):
        named.add_param_group({"params": list(late.parameters())})
    groups = td.param_groups(model, 0.1, names=False)
    optimizer = torch.optim.SGD(groups, lr=0.1)
    optimizer.add_param_group({"params": list(late.parameters())})
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0, 0.0]
    assert not any("param_names" in group for group in optimizer.param_groups)
    td.attach(optimizer, td.plan(nn.ModuleList([model, late]), 0.2), model=nn.ModuleList([model, late]))
    sides = td.split(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), 0.1, names=False)
    assert [len(side) for side in (sides.matrices, sides.others)] == [1, 2]
    assert not any("param_names" in group for group in (*sides.matrices, *sides.others))


def test_groups_of_a_framework_are_kept_and_split_where_rows_decay_apart() -> None:
    """Layer rates and the like: options and order stay, weight_decay is the plan's, and each weight is there once."""
    model = mlp()
    plan = td.plan(model, 0.1, rules=[td.rule("2.weight", td.DEFAULT, momentum=0.5), *td.STANDARD])
    first = {"params": list(model[0].parameters()), "lr": 0.01, "lr_scale": 0.5, "weight_decay": 7.0, "name": "early"}
    rest = {"params": [(f"x.{n}", p) for n, p in model[2].named_parameters()], "lr": 0.1, "momentum": 0.9}
    groups = plan.param_groups(model, keep=[first, list(model[1].parameters()), rest], lr=1.0, nesterov=True)
    told = [(g["param_names"], g["weight_decay"], g["lr"], g.get("momentum"), g.get("name")) for g in groups]
    assert told == [
        (["0.weight"], 0.1, 0.01, None, "early"),
        (["0.bias"], 0.0, 0.01, None, "early_2"),
        (["1.weight", "1.bias"], 0.0, 1.0, None, None),
        (["2.weight"], 0.1, 0.1, 0.5, None),
        (["2.bias"], 0.0, 0.1, 0.9, None),
    ]
    assert [group.get("lr_scale") for group in groups] == [0.5, 0.5, None, None, None]
    assert all(group["nesterov"] for group in groups)
    assert_sound(groups, model)
    optimizer = torch.optim.SGD(groups)
    again = plan.param_groups(model, keep=optimizer.param_groups)
    assert [group["param_names"] for group in again] == [group["param_names"] for group in groups]


def test_kept_groups_take_frozen_layers_along() -> None:
    """A splitter hands over all layers, be they frozen for now; these stay in groups of their own and don't decay."""
    model = mlp()
    model[0].requires_grad_(False)
    plan = td.plan(model, td.l1(0.1))
    groups = plan.param_groups(model, keep=[[*model[0].parameters()], [*model[1:].parameters()]], names=False)
    assert [(len(group["params"]), group["weight_decay"], MARK in group) for group in groups] == [
        (2, 0.0, False),
        (3, 0.0, False),
        (1, 0.0, True),
    ]


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        (lambda model: [model[0].parameters(), model[1].parameters()], 'no group has "2.weight", "2.bias"'),
        (
            lambda model: [model.parameters(), [nn.Parameter(torch.zeros(7))]],
            r"group 1 has .* of shape \(7,\) that is not",
        ),
        (lambda model: [model.parameters(), model[2].parameters()], 'group 1 has "2.weight", which is there twice'),
        (lambda model: [{"lr": 0.1}], "group 0 has no list of parameters"),
        (lambda model: ["weights"], "group 0 has no list of parameters"),
    ],
)
def test_kept_groups_must_be_of_this_model_and_of_all_of_it(kept: Any, says: str) -> None:
    model = mlp()
    with pytest.raises(PlanError, match=says):
        td.plan(model, 0.1).param_groups(model, keep=kept(model))
