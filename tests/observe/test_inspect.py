"""inspect reads what groups say, and takes no step for it."""

from __future__ import annotations

import copy
import json
import math
import pickle
import time

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from observe.verify.bits import read, same
from observe.verify.optimizers import Lion, Twice, case_id, make
from torch_optimizers import TORCH, WITHOUT
from torchdecay.errors import ApplyError
from torchdecay.observe.inspect import inspect
from torchdecay.observe.verify.verify import verify
from torchdecay.optimizers.cards import native_of


def small():
    return nn.Sequential(nn.Linear(9, 7), nn.LayerNorm(7))


def test_a_group_is_read_as_it_stands():
    """Class, names, numbers, counts, dtypes and devices."""
    model = small()
    model[1].bias.requires_grad_(False)
    optimizer = optim.AdamW([{"params": list(model.parameters())}], lr=0.01, weight_decay=0.1)
    before = read(optimizer)
    (group,) = inspect(optimizer, model=model)
    assert same(before, read(optimizer)) == []
    assert (group.optimizer, group.optimizer_index, group.index) == ("AdamW", 0, 0)
    assert group.names == ("0.weight", "0.bias", "1.weight", "1.bias")
    assert (group.lr, group.weight_decay, group.problem) == (0.01, 0.1, "")
    assert (group.meaning, group.wiring, group.decays) == ("decoupled", "", ())
    assert (group.num_params, group.num_elements, group.num_frozen) == (4, 63 + 7 + 7 + 7, 1)
    assert (group.dtypes, group.devices) == (("float32",), ("cpu",))
    assert group.pull == pytest.approx((0.001, 0.001))


@pytest.mark.parametrize("name", list(TORCH | WITHOUT), ids=case_id)
def test_what_weight_decay_means_comes_from_the_native_table(name):
    """The word is the table's, for every torch optimizer."""
    _, optimizer = make(name, {})
    known = native_of(optimizer, optimizer.param_groups[0])
    word = {None: "none", td.Site.GRADIENT: "coupled", td.Site.BEFORE: "decoupled"}[known and known.site]
    assert inspect(optimizer)[0].meaning == word


@pytest.mark.parametrize("name", list(TORCH | WITHOUT), ids=case_id)
def test_the_pull_per_step_is_what_verify_measures(name):
    """Where a fraction is given at all, it is what happens; under momentum in the end, of how far weights swing."""
    _, optimizer = make(name, {})
    pull = inspect(optimizer)[0].pull
    if name in WITHOUT:
        assert pull == (0.0, 0.0)
    elif name == "SGD":
        assert pull == pytest.approx((0.01, 0.01))
    elif name == "SGD momentum":
        # Of 0.01 per step weights swing: the roots of their recursion are complex, and their product is the momentum.
        assert pull == pytest.approx((1 - 0.9**0.5,) * 2, rel=1e-12)
        assert "momentum swings weights through zero" in str(inspect(optimizer)).replace("\n", " ")
    elif name == "SGD nesterov":
        assert pull == pytest.approx((1 - (0.9 * 0.99) ** 0.5,) * 2, rel=1e-12)
    elif inspect(optimizer)[0].meaning == "decoupled":
        assert pull == pytest.approx((verify(optimizer)[0].measured,) * 2, rel=1e-3)
    else:
        assert pull is None


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9, "dampening": 0.5},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.5},
    ],
    ids=str,
)
def test_the_settled_fraction_of_sgd_is_that_of_a_long_run(options):
    """Under coupled decay and no gradient of the loss, weights shrink by that fraction once momentum has settled."""
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optim.SGD([weight], lr=1e-4, weight_decay=0.01, **options)
    for _ in range(300):
        weight.grad = torch.zeros_like(weight)
        last = float(weight.detach())
        optimizer.step()
    assert 1 - float(weight.detach()) / last == pytest.approx(inspect(optimizer)[0].pull[1], rel=1e-3)


def test_names_come_from_the_model_then_the_groups_then_the_place():
    """A name that a wrapper has put a prefix on is the plain one."""
    model = small()
    wrapped = nn.DataParallel(model)
    bare = optim.SGD(model.parameters(), lr=0.1)
    assert inspect(bare)[0].names[1] == "group 0, #1"
    assert inspect(bare, model=wrapped)[0].names[1] == "0.bias"
    named = optim.SGD(wrapped.named_parameters(), lr=0.1)
    assert inspect(named)[0].names[1] == "module.0.bias"
    assert inspect(named, model=wrapped)[0].names[1] == "0.bias"
    assert inspect(bare, model=nn.Linear(2, 2))[0].names[0] == "group 0, #0"


def test_a_class_with_a_step_of_its_own_is_unknown():
    """Nothing is guessed from a name or a base class; verify measures."""
    for optimizer in (Lion(small().parameters(), 0.1, 0.1), Twice(small().parameters(), lr=0.1, weight_decay=0.1)):
        (group,) = inspect(optimizer)
        assert (group.meaning, group.pull) == ("unknown", None)
        assert "td.verify" in inspect(optimizer).to_text(width=200)


def test_an_attached_plan_is_told_row_by_row():
    """What runs, by which route, for how many, and how hard."""
    model = small()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with td.attach(optimizer, td.plan(model, td.decoupled(0.5)), model=model):
        (group,) = inspect(optimizer)
        assert group.wiring == "attached"
        assert group.decays == (("decoupled(0.5)", "hook", 1), ("spared", "none", 3))
        assert group.pull == pytest.approx((0.0, 0.05))
        assert "decoupled(0.5) (hook) x1" in inspect(optimizer).to_text(width=200)
    assert inspect(optimizer)[0].wiring == ""


def test_a_plan_that_is_not_at_work_is_told():
    """Groups of a plan that nobody attached, and copies that lost their hooks."""
    model = small()
    plan = td.plan(model, td.decoupled(0.5))
    optimizer = optim.SGD(plan.param_groups(model), lr=0.1)
    assert [group.wiring for group in inspect(optimizer)] == ["not attached", ""]
    handle = td.attach(optimizer, plan)
    assert [group.wiring for group in inspect(optimizer)] == ["attached", "attached"]
    for lost in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert [group.wiring for group in inspect(lost)] == ["hooks lost", "hooks lost"]
        assert "hooks lost" in inspect(lost).to_text(width=200)
    handle.remove()
    assert [group.wiring for group in inspect(optimizer)] == ["not attached", ""]


def test_a_plan_that_no_longer_fits_can_still_be_read():
    """inspect never refuses an optimizer for what it has become."""
    model = small()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with td.attach(optimizer, td.plan(model, td.decoupled(0.5)), model=model):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
        assert [group.pull for group in inspect(optimizer)] == [None, None]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("weight_decay", "0.1x", "no number"),
        ("weight_decay", math.nan, "nan"),
        ("weight_decay", -0.1, "grow"),
        ("lr", math.inf, "lr is inf"),
        ("lr", "fast", "lr is 'fast'"),
    ],
)
def test_what_is_no_number_is_told_and_not_raised(key, value, said):
    """JSON stays JSON, and the table prints."""
    optimizer = optim.AdamW(small().parameters())
    optimizer.param_groups[0][key] = value
    read_ = inspect(optimizer)
    assert said in read_[0].problem and read_[0].pull is None
    assert said in read_.to_text(width=200)
    json.loads(read_.to_json(), parse_constant=pytest.fail)


def test_tensors_lists_and_empty_groups_are_read():
    """0-d tensors as numbers, several optimizers one after the other, lazy and meta parameters without elements."""
    first = optim.Adam(small().parameters(), lr=torch.tensor(0.5), weight_decay=torch.tensor(0.25), foreach=False)
    lazy = optim.SGD(nn.LazyLinear(3).parameters(), lr=0.1)
    meta = optim.SGD([nn.Parameter(torch.empty(3, 4, device="meta"))], lr=0.1)
    groups = inspect([first, lazy, meta])
    assert [group.optimizer_index for group in groups] == [0, 1, 2]
    assert (groups[0].lr, groups[0].weight_decay) == (0.5, 0.25)
    assert [group.num_elements for group in groups] == [84, 0, 12]
    assert groups[2].devices == ("meta",)
    first.param_groups[0]["params"] = []
    assert inspect(first)[0].names == () and inspect(first).to_text()


def test_it_prints_and_travels_as_json():
    """One line per group and a summary; JSON has every field."""
    model = small()
    read_ = inspect(optim.AdamW(td.param_groups(model, 0.1), lr=0.01))
    text = read_.to_text(width=160)
    assert "0.weight" in text and "0.001" in text and "2 groups, 4 parameters, 84 elements; 63 elements" in text
    assert repr(read_) == str(read_) and len(read_) == 2 and read_[:1] == (read_[0],)
    body = json.loads(read_.to_json())
    assert body["format"] == "torchdecay.inspection" and body["version"] == 1
    assert body["groups"][0]["names"] == ["0.weight"] and body["groups"][0]["meaning"] == "decoupled"
    optimizer = optim.SGD([{"params": [nn.Parameter(torch.ones(2))], "param_names": ["[bold]w"]}], lr=0.1)
    assert "[bold]w" in inspect(optimizer).to_text()


@pytest.mark.parametrize(
    "given", [None, 3, [nn.Linear(2, 1)], [], {"a": object()}], ids=["None", "3", "module", "empty", "dict"]
)
def test_what_is_no_optimizer_is_refused(given):
    """With what was given, and what to give."""
    with pytest.raises(ApplyError, match="optimizer"):
        inspect(given)


def test_optimizers_in_a_dict_are_read_in_order():
    """As some training loops keep them."""
    groups = inspect({"a": optim.SGD(small().parameters(), lr=0.1), "b": optim.AdamW(small().parameters())})
    assert [group.optimizer for group in groups] == ["SGD", "AdamW"]


def test_very_many_parameters_are_read_quickly():
    """A hundred thousand, in twenty groups."""
    params = [nn.Parameter(torch.empty(2, device="meta")) for _ in range(100_000)]
    optimizer = optim.SGD([{"params": params[i : i + 5000]} for i in range(0, 100_000, 5000)], lr=0.1)
    start = time.perf_counter()
    assert len(inspect(optimizer)) == 20
    assert time.perf_counter() - start < 5


def test_several_optimizers_of_one_class_are_told_apart():
    """One per network, as in a GAN: every table numbers them, as audits do."""
    both = [optim.AdamW(nn.Linear(2, 2).parameters(), lr=1e-3, weight_decay=0.1) for _ in range(2)]
    for said in (inspect(both), td.verify(both), td.forecast(both, run=td.Run(steps=10))):
        lines = str(said).splitlines()
        assert all(any(line.startswith(f"AdamW {one}, group 0") for line in lines) for one in (1, 2))


def test_all_that_observe_take_one_model_or_several() -> None:
    """A list or a dict; of one name twice the later says whose it is, and a plan keeps to its own model's names."""
    first, second = nn.Linear(4, 2), nn.Linear(4, 2)
    optimizers = [torch.optim.AdamW(one.parameters(), weight_decay=0.1) for one in (first, second)]
    td.attach(optimizers[1], td.plan(second, td.l1(0.1), rules=[("bias", td.l1(0.2)), *td.STANDARD]), model=second)
    for models, name in (([first, second], "model 2.weight"), ({"actor": first, "critic": second}, "critic.weight")):
        found = td.audit(optimizers, model=models)
        assert found.codes == ("WD101",) and named(found) == {"bias"}
        assert name in td.inspect(optimizers, model=models)[1].names
        assert name in td.verify(optimizers, model=models)[1].parts[0].names
        told = td.forecast(optimizers, run=td.Run(steps=10), model=models)
        assert name in {one for group in told.groups for one in group.names}
        with td.Monitor(optimizers, model=models) as monitor:
            for model, optimizer in zip((first, second), optimizers, strict=True):
                model(torch.ones(3, 4)).square().sum().backward()
                optimizer.step()
        series = monitor.history.series
        assert [one.role for one in series if name in one.names] == ["weight"]
    for wrong in ("model", [first, 3]):
        with pytest.raises(td.PlanError, match="where a model belongs"):
            td.inspect(optimizers, model=wrong)


def named(found: td.Audit) -> set[str]:
    return {name for finding in found for name in finding.names}


@pytest.mark.parametrize(
    ("method", "key", "said"),
    [
        ("independent", {}, "w ← w − λ·w, whatever the schedule, as td.per_step"),
        ("palm", {}, "w ← w − lr²·λ·w"),
        (None, {"decouple_lr": True}, "along the schedule, as td.independent"),
        (None, {"decouple_lr": False}, ""),
        ("ours", {}, ""),
    ],
)
def test_the_two_that_are_called_independent_are_told_apart(method, key, said) -> None:
    """What an optimizer says itself is told as its word, and not as measured."""
    optimizer = Lion([nn.Parameter(torch.ones(3))], lr=0.1, weight_decay=0.01)
    optimizer.param_groups[0] |= key
    if method is not None:
        optimizer.weight_decay_method = method
    made = inspect(optimizer)
    assert made[0].meaning == "unknown" and made[0].claim.endswith(said) and bool(made[0].claim) == bool(said)
    assert ("so it says" in str(made)) == bool(said)
