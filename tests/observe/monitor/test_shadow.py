"""The step beside the real one: what it measures against two real runs, that it moves nothing, and what it refuses."""

from __future__ import annotations

import copy
import itertools
import math
import random
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn, optim

import torchdecay as td
from this_torch import Muon
from torch_optimizers import TORCH
from torchdecay.observe.monitor import budget, carried, samples, selection

LR, WD = 0.02, 0.1


def make_model(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 32), nn.Tanh(), nn.Linear(32, 8)).to(dtype)


def make_optimizer(model, make, **options):
    """Over matrices alone, which Muon needs."""
    return make([param for param in model.parameters() if param.dim() == 2], **options)


def backward(model, seed):
    x = torch.randn(16, 24, generator=torch.Generator().manual_seed(seed)).to(next(model.parameters()))
    loss = model(x).square().mean()
    loss.backward()
    return loss


def train(model, optimizer, steps, first=0, closure=False):
    for step in range(first, first + steps):
        optimizer.zero_grad()
        if closure:
            optimizer.step(lambda step=step: (optimizer.zero_grad(), backward(model, step))[1])
        else:
            backward(model, step)
            optimizer.step()


def values(history, quantity):
    (group,) = history.groups
    return history.curve(group, quantity)[1]


def everything(optimizer):
    """All that a step beside it could have moved."""
    saved = optimizer.state_dict()
    tensors = [
        value for state in saved["state"].values() for value in state.values() if isinstance(value, torch.Tensor)
    ]
    return (
        [*(param.detach() for group in optimizer.param_groups for param in group["params"]), *tensors, torch.rand(1)],
        [{key: value for key, value in group.items()} for group in saved["param_groups"]],
        [sorted(map(str, state)) for state in saved["state"].values()],
        (random.random(), np.random.rand(), sorted(vars(optimizer))),
    )


CASES = [(name, False) for name in TORCH] + [(name, True) for name in ("SGD momentum", "Adam", "Muon", "Adafactor")]


def at_once(model, optimizer, step):
    """The fraction that decay takes in the step that comes, by two copies that really take it, one without decay."""
    ends = []
    start = torch.cat([p.detach().flatten() for p in model.parameters() if p.dim() == 2]).double()
    for decays in (True, False):
        other, own = copy.deepcopy((model, optimizer))
        own.param_groups[0]["weight_decay"] = WD if decays else 0.0
        train(other, own, 1, step)
        ends.append(torch.cat([p.detach().flatten() for p in other.parameters() if p.dim() == 2]).double())
    return float((ends[1] - ends[0]) @ start / start.square().sum())


@pytest.mark.parametrize(("name", "closure"), CASES)
def test_what_decay_takes_at_once_is_the_difference_of_two_real_steps_and_nothing_moves(name, closure):
    """From each state two optimizers go on, one without decay: where they part is what the monitor has measured."""
    make, options = TORCH[name]
    options = {**options, "lr": options["lr"] / 10, "weight_decay": WD}
    ends, expected, took = [], [], []
    for watched in (False, True):
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        model = make_model()
        optimizer = make_optimizer(model, make, **options)
        monitor = td.Monitor(optimizer, every_steps=1) if watched else None
        for step in range(3):
            if not watched:
                expected.append(at_once(model, optimizer, step))
            train(model, optimizer, 1, step, closure)
        if monitor is not None:
            monitor.close()
            history = monitor.history
            assert history.unmeasured == {}
            assert history.of(*history.groups).source == "state" or values(history, "sample") == (1024,) * 3
            took = values(history, "realized_shrink")
            if history.of(*history.groups).carried == "followed":
                took = [a - b for a, b in zip(took, values(history, "carried_shrink"), strict=True)]
        ends.append(everything(optimizer))
    # A hundred roundings of float32 beside displacements of a thousandth.
    assert took == pytest.approx(expected, rel=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(ends[0][0], ends[1][0], strict=True))
    assert ends[0][1:] == ends[1][1:]


LINEAR = {
    "SGD": (lambda params: optim.SGD(params, lr=LR, momentum=0.9, dampening=0.3, weight_decay=WD), 0.7),
    "nesterov": (lambda params: optim.SGD(params, lr=LR, momentum=0.9, nesterov=True, weight_decay=WD), 1.0),
    "Adam": (lambda params: optim.Adam(params, lr=LR / 10, amsgrad=True, weight_decay=WD), 0.1),
    "NAdam": (lambda params: optim.NAdam(params, lr=LR / 10, weight_decay=WD), 0.1),
    "RAdam": (lambda params: optim.RAdam(params, lr=LR / 10, weight_decay=WD), 0.1),
    "Adamax": (lambda params: optim.Adamax(params, lr=LR / 10, weight_decay=WD), 0.1),
    "RMSprop": (lambda params: optim.RMSprop(params, lr=LR / 100, momentum=0.9, centered=True, weight_decay=WD), 1.0),
}


def exact(tensor):
    """With 64 bits of mantissa."""
    return tensor.detach().numpy().astype(np.longdouble)


def factor(name, optimizer, state, step):
    """By what an element of momentum moves its weight in the step that left this state, from torch's own formulas."""
    lr = np.longdouble(optimizer.param_groups[0]["lr"])
    if name in ("SGD", "nesterov", "RMSprop"):
        return lr * (0.9 if name == "nesterov" else 1.0)
    filled = 1 - 0.9**step
    if name == "Adamax":
        return lr / filled / exact(state["exp_inf"])
    if name == "Adam":
        return lr / filled / (np.sqrt(exact(state["max_exp_avg_sq"]) / (1 - 0.999**step)) + 1e-8)
    root = np.sqrt(exact(state["exp_avg_sq"]))
    if name == "NAdam":
        after = 0.9 * (1 - 0.5 * 0.96 ** ((step + 1) * 0.004))
        return lr * after / (1 - float(state["mu_product"]) * after) / (root / np.sqrt(1 - 0.999**step) + 1e-8)
    longest = 2 / (1 - 0.999) - 1
    length = longest - 2 * step * 0.999**step / (1 - 0.999**step)
    if length <= 5:
        return lr / filled
    rect = ((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) ** 0.5
    return lr / filled * rect * (1 - 0.999**step) ** 0.5 / (root + 1e-8)


def divided(name, state, weights):
    """What a step adds to its momentum: RMSprop divides before that, by what the step leaves."""
    if name != "RMSprop":
        return weights
    return weights / (np.sqrt(exact(state["square_avg"]) - exact(state["grad_avg"]) ** 2) + 1e-8)


def carried_by_hand(name, optimizer, every, steps, seen):
    """λw of each step by hand, in long double, through the momentum that the optimizer has; (carried, all) by step."""
    added, found = LINEAR[name][1], {}
    params, lies = [param for group in optimizer.param_groups for param in group["params"]], {}
    for step in range(1, steps + 1):
        starts = [exact(param) for param in params]
        seen(step)
        along = whole = size = np.longdouble(0)
        for place, (param, start) in enumerate(zip(params, starts, strict=True)):
            state = optimizer.state[param]
            before, by = lies.get(place, 0 * start) * np.longdouble(0.9), factor(name, optimizer, state, step)
            share = 1.0 if step == 1 and name in ("SGD", "nesterov") else added
            own = share * WD * divided(name, state, start)
            lies[place] = before + own
            along += (before * by * start).sum()
            direct = WD * start * optimizer.param_groups[0]["lr"] if name == "nesterov" else 0
            whole += (((before + own) * by + direct) * start).sum()
            size += (start * start).sum()
        if step == 1 or step % every == 0:
            found[step] = (float(along / size), float(whole / size))
    return found


@pytest.mark.parametrize("every", [1, 40])
@pytest.mark.parametrize("name", LINEAR)
def test_what_momentum_brings_of_earlier_decay_is_that_of_every_step(name, every):
    """Against the recursion in long double over the denominators that the optimizer really has; of SGD all decay is."""
    make = LINEAR[name][0]
    model = make_model(torch.float64)
    optimizer = make(list(model.parameters()))
    with td.Monitor(optimizer, every_steps=every, by=lambda name: "all") as monitor:
        expected = carried_by_hand(name, optimizer, every, 60, lambda step: train(model, optimizer, 1, step))
    history = monitor.history
    steps = history.curve("all", "realized_shrink")[0]
    assert set(steps) == set(expected) if every == 40 else len(steps) >= 3
    # Records keep float32.
    assert values(history, "carried_shrink") == pytest.approx([expected[step][0] for step in steps], rel=3e-7)
    assert set(values(history, "followed_every")) == {1}
    if name in ("SGD", "nesterov"):
        assert values(history, "realized_shrink") == pytest.approx([expected[step][1] for step in steps], rel=3e-7)


def test_momentum_is_followed_where_memory_is_otherwise_and_where_options_change():
    """Weights in bf16 or turned around, elements of large ones, a decay that is scheduled."""
    weights = [nn.Parameter(torch.randn(40, 300).t()), nn.Parameter(torch.randn(130, 130, dtype=torch.bfloat16))]
    optimizer = optim.SGD(weights, lr=0.5, momentum=0.9, weight_decay=WD)
    lies = [torch.zeros(1) for _ in weights]
    with td.Monitor(optimizer, every_steps=30, by="tensor") as monitor:
        for step in range(1, 31):
            optimizer.param_groups[0]["weight_decay"] = decay = WD * (step % 7)
            entering = [one * 0.9 for one in lies]
            starts = [samples.sampled(one, samples.SHADOWED).double() for one in weights]
            for one in weights:
                one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(step)).to(one.dtype)
            optimizer.step()
            lies = [one + decay * start for one, start in zip(entering, starts, strict=True)]
    pairs = zip(entering, starts, strict=True)
    expected = [0.5 * float((one * start).sum() / (start * start).sum()) for one, start in pairs]
    found = [monitor.history.curve(group, "carried_shrink")[1][-1] for group in monitor.history.groups]
    # Thirty roundings of float32.
    assert found == pytest.approx(expected, rel=3e-6)


@pytest.mark.parametrize(("pressed", "rel"), [(0.1, 0.05), (0.001, 0.002)], ids=["those near", "all"])
def test_where_following_takes_too_long_each_third_step_stands_for_three(monkeypatch, pressed, rel):
    """By a clock on which a step takes ten seconds, and following it one, which is too much."""
    now = [0]

    def look():
        now[0] += 1
        return now[0]

    def step_once(step):
        now[0] += 10
        train(model, optimizer, 1, step)

    monkeypatch.setattr(carried, "time", SimpleNamespace(perf_counter=look))
    monkeypatch.setattr(carried, "FOLLOWING", 0.034)
    monkeypatch.setattr(carried, "PRESSED", pressed)
    monkeypatch.setattr(budget, "FREE", 0)
    monkeypatch.setattr(budget, "MOST_SHARE", math.inf)
    model = make_model(torch.float64)
    optimizer = LINEAR["Adam"][0](list(model.parameters()))
    with td.Monitor(optimizer, every_steps=40, by=lambda name: "all") as monitor:
        expected = carried_by_hand("Adam", optimizer, 40, 120, step_once)
    assert values(monitor.history, "followed_every") == (1, 1, 3, 3)
    found = values(monitor.history, "carried_shrink")
    assert found[2:] == pytest.approx([expected[step][0] for step in (80, 120)], rel=rel)
    assert "was followed at 1 step in 3" in str(monitor.history)


def replace_weights(model, optimizer):
    for param in model.parameters():
        param.data = param.data.clone()


def replace_state(model, optimizer):
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def drop_state(model, optimizer):
    optimizer.state.clear()


@pytest.mark.parametrize(
    ("change", "why"),
    [(replace_weights, "its weights were replaced"), (replace_state, "its state was replaced"), (drop_state, "")],
)
def test_momentum_that_nobody_could_follow_is_said(change, why):
    """The record after it is unmeasured and says why; without any momentum there is nothing to know."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=WD)
    with td.Monitor(optimizer, every_steps=4, by=lambda name: "all") as monitor:
        train(model, optimizer, 7)
        change(model, optimizer)
        train(model, optimizer, 5, 7)
    records = list(monitor.history)
    assert [record.step for record in records] == [1, 4, 8, 12]
    assert why in records[2].unmeasured.get("all", "")
    assert not any(records[place].unmeasured for place in (0, 1, 3))
    if not why:
        assert records[2]["carried_shrink"][0] == 0


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop])
def test_what_a_hook_after_the_step_does_is_beside_the_step(make):
    """Weights that a user's hook scales: decay is measured without that, which is told as what it is."""
    options = {"momentum": 0.9} if make in (optim.SGD, optim.RMSprop) else {}
    took = []
    for scaled in (1.0, 0.9):
        model = make_model()
        optimizer = make(model.parameters(), lr=LR / 10, weight_decay=WD, **options)
        optimizer.register_step_post_hook(lambda *_, by=scaled, own=model: [p.data.mul_(by) for p in own.parameters()])
        with td.Monitor(optimizer, every_steps=1, by=lambda name: "all") as monitor:
            train(model, optimizer, 1)
        history = monitor.history
        assert history.unmeasured == {}
        took.append(values(history, "realized_shrink") + values(history, "update_norm"))
        assert [event.kind for event in history.events] == (["between steps"] if scaled < 1 else [])
    assert took[0] == took[1] and values(history, "between_shrink") == pytest.approx([0.1])


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.RMSprop])
def test_a_differentiable_step_is_measured_as_another(make):
    """Copies are leaves: they step without being differentiable, and what is the user's stays in its graph."""
    took, options = [], {"momentum": 0.9} if make in (optim.SGD, optim.RMSprop) else {}
    for is_differentiable in (False, True):
        weight = torch.randn(24, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        if is_differentiable:
            weight = weight.clone()
            weight.retain_grad()
        optimizer = make([weight], lr=LR, weight_decay=WD, differentiable=is_differentiable, **options)
        with td.Monitor(optimizer, every_steps=1, by=lambda name: "all") as monitor:
            for step in range(3):
                weight.grad = torch.randn(24, 8, generator=torch.Generator().manual_seed(step))
                optimizer.step()
        assert monitor.history.unmeasured == {} and optimizer.param_groups[0]["differentiable"] is is_differentiable
        took.append(values(monitor.history, "realized_shrink"))
    assert took[0] == pytest.approx(took[1], rel=1e-4)


# ── What is not as it seems ──


class Own(optim.Optimizer):
    """SGD of a library that nobody knows, whose rule can be disturbed."""

    def __init__(self, params, **own):
        super().__init__(params, {"lr": 0.05, "weight_decay": WD})
        vars(self).update(own)

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.mul_(1 - group["lr"] * group["weight_decay"])
                    param.sub_(param.grad + float(self.disturb(self)), alpha=group["lr"])
        return loss

    def disturb(self, own):
        """Nothing, unless a test says otherwise."""
        return 0.0


COUNTS, TURN = [0], 0


class CountsInAList(Own):
    def disturb(self, own):
        COUNTS[0] += 1
        return COUNTS[0]


class CountsInAGlobal(Own):
    def disturb(self, own):
        global TURN
        TURN += 1
        return TURN


class CountsInTheClass(Own):
    turn = 0

    def disturb(self, own):
        CountsInTheClass.turn += 1
        return self.turn


class CountsInItself(Own):
    def disturb(self, own):
        self.count += 1
        return self.count


class DrawsFrom(Own):
    def disturb(self, own):
        return np.random.rand() + random.random() + torch.rand(()) + torch.rand((), generator=self.generator)


class CountsOnAWeight(Own):
    """In a tensor, and in one in a dict, which are attributes of the first weight."""

    def disturb(self, own):
        weight = self.param_groups[0]["params"][0]
        if not hasattr(weight, "count"):
            weight.count, weight.counts = torch.zeros(()), {"turn": torch.zeros(())}
        return weight.count.add_(1) + weight.counts["turn"].add_(1)


KEPT = (CountsInAList, CountsInAGlobal, CountsInTheClass, CountsInItself, CountsOnAWeight, DrawsFrom)


@pytest.mark.parametrize("make", KEPT)
def test_what_a_rule_counts_or_draws_is_put_back(make):
    """Numbers that a step draws or counts are those that it would draw without a monitor."""
    ends = []
    for watched in (False, True):
        torch.manual_seed(2)
        random.seed(2)
        np.random.seed(2)
        model = make_model()
        COUNTS[0] = globals()["TURN"] = CountsInTheClass.turn = 0
        optimizer = make(model.parameters(), count=0, generator=torch.Generator().manual_seed(3))
        with td.Monitor(optimizer, every_steps=1, by=lambda name: "all") if watched else nullcontext() as monitor:
            train(model, optimizer, 3)
        if watched:
            assert monitor.history.unmeasured == {}
            assert values(monitor.history, "realized_shrink") == pytest.approx([0.05 * WD] * 3, rel=1e-4)
        ends.append(everything(optimizer)[0])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


class CountsElsewhere(Own):
    """What counts is no plain value: nobody can put it back."""

    counter = itertools.count()

    def disturb(self, own):
        return next(self.counter)


class Raises(Own):
    """In a step of copies, which have no names."""

    def disturb(self, own):
        if self.param_groups[0]["param_names"][0] != "own":
            raise ValueError("no such name")
        return 0.0


REFUSED = {
    "elsewhere": (CountsElsewhere, {}, "a step of its copies led elsewhere"),
    "lock": (Own, {"lock": threading.Lock()}, "it can't be copied: TypeError: cannot pickle"),
    "heavy": (Own, {"cache": [torch.empty(1 << 27, dtype=torch.int8), torch.empty(1 << 28, dtype=torch.int8)]}, "MiB"),
    "raises": (Raises, {}, "its step on copies raised ValueError: no such name"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_copied_is_said_and_planned_instead(name, tmp_path):
    """The record says why, in words, the table too, and both survive a file; training goes on."""
    make, own, why = REFUSED[name]
    model = make_model()
    named = [("own" if name == "0.weight" else name, param) for name, param in model.named_parameters()]
    optimizer, path = make(named, **own), tmp_path / "run.jsonl"
    with td.Monitor(optimizer, every_steps=1, path=path, strict=True, by=lambda name: "all") as monitor:
        train(model, optimizer, 2)
    history = td.History.load(path)
    assert history == monitor.history
    assert why in history.records[0].unmeasured["all"]
    assert "realized_shrink" not in history.quantities and "sample" not in history[:2].quantities
    assert f"all: not measured at step 2, for {history.unmeasured['all']}" in str(history)
    assert history[1:2].unmeasured and not history.events


class Mixed(optim.Optimizer):
    """Two rules in one class, chosen by the group, as speedruns have them."""

    def __init__(self, groups):
        super().__init__(groups, {"lr": 0.05, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for param in group["params"]:
                gradient, decay = param.grad, group["weight_decay"]
                if group["kind"] == "orthogonal":
                    param.mul_(1 - group["lr"] * decay)
                    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
                    param.sub_(left @ right, alpha=group["lr"])
                else:
                    param.sub_(gradient + decay * param, alpha=2 * group["lr"])


def test_an_optimizer_that_mixes_rules_is_read_group_by_group():
    """What its weight_decay takes differs from group to group, and is measured in each."""
    model = make_model()
    matrices, vectors = ([p for p in model.parameters() if (p.dim() == 2) is wanted] for wanted in (True, False))
    optimizer = Mixed(
        [
            {"params": matrices, "kind": "orthogonal", "weight_decay": WD},
            {"params": vectors, "kind": "plain", "weight_decay": WD / 2},
        ]
    )
    with td.Monitor(optimizer, every_steps=1) as monitor:
        train(model, optimizer, 2)
    history = monitor.history
    took = [history.curve(group, "realized_shrink")[1][-1] for group in history.groups]
    assert took == pytest.approx([0.05 * WD, 2 * 0.05 * WD / 2], rel=1e-3)
    assert {one.carried for one in history.series} == {"unknown"}


def test_what_takes_the_step_along_is_measured_as_before():
    """Under a rule that nobody knows all weights are copied; what a plan's pass takes of some is that pass's own."""
    model = make_model()
    optimizer = Own([{"params": model[0].parameters(), "weight_decay": WD}, {"params": model[2].parameters()}])
    td.attach(optimizer, td.plan(model, td.decoupled(WD / 2), rules=[("0.*", td.native(WD))]), model=model)
    with td.Monitor(optimizer, every_steps=1, by=lambda name: name[0]) as monitor:
        train(model, optimizer, 1)
    history = monitor.history
    assert [history.of(group).source for group in ("0", "2")] == ["shadow", "pass"]
    took = [history.curve(group, "realized_shrink")[1][0] for group in ("0", "2")]
    assert took == pytest.approx([0.05 * WD, 0.05 * WD / 2], rel=1e-4)


def test_of_large_tensors_the_smallest_of_each_group_are_copied(monkeypatch):
    """A rule that mixes rows needs whole matrices, and the small ones tell as much; what no room is for is said."""
    torch.manual_seed(0)
    sizes = (96, 48, 64)
    weights = [nn.Parameter(torch.randn(size, 8)) for size in sizes]
    optimizer = Muon([{"params": weights, "param_names": ["a", "b", "c"]}], lr=LR, weight_decay=WD)
    monkeypatch.setattr(selection, "MOST_WHOLE", 64 * 8)
    with td.Monitor(optimizer, every_steps=1, by=lambda name: "all") as monitor:
        for limit in (selection.MOST_BYTES, 100):
            monkeypatch.setattr(selection, "MOST_BYTES", limit)
            for weight in weights:
                weight.grad = torch.randn_like(weight)
            optimizer.step()
    history = monitor.history
    assert values(history, "sample") == ((48 + 64) * 8,)
    assert values(history, "realized_shrink") == pytest.approx([LR * WD], rel=1e-3)
    assert values(history, "planned_shrink") == pytest.approx([LR * WD] * 2)
    assert "its copies would take 0 MiB of 0" in history.unmeasured["all"]


def test_a_step_that_takes_too_long_waits_until_it_is_paid_for(monkeypatch):
    """Of the time of training copies take a part that is stated; the record that would take more says so."""
    monkeypatch.setattr(budget, "FREE", 1)
    monkeypatch.setattr(budget, "MOST_SHARE", 0.0)
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=WD)
    with td.Monitor(optimizer, every_steps=1, model=model, by=lambda name: "all") as monitor:
        train(model, optimizer, 2)
        assert monitor.history.unmeasured["all"].startswith("steps on copies have 0% of the time")
        monkeypatch.setattr(budget, "MOST_SHARE", 1e9)
        train(model, optimizer, 1)
    assert monitor.history.unmeasured == {}
    assert "two steps on copies, in 2 of 3 records" in str(monitor.history)
    assert [bool(record.unmeasured) for record in monitor.history] == [False, True, False]


def test_an_alarm_goes_on_through_records_that_measured_nothing(monkeypatch):
    """A decay that is lost is told once, though the record in between had no time to look."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=WD)
    with td.Monitor(optimizer, every_steps=1, model=model, by=lambda name: "all") as monitor:
        train(model, optimizer, 3)
        optimizer.param_groups[0]["weight_decay"] = 0.0
        for free in (math.inf, 0, math.inf):
            monkeypatch.setattr(budget, "FREE", free)
            monkeypatch.setattr(budget, "MOST_SHARE", 0.0)
            train(model, optimizer, 1)
    assert [bool(record.unmeasured) for record in monitor.history] == [False] * 4 + [True, False]
    assert [(event.step, event.kind) for event in monitor.history.events] == [(4, "lost")]


def test_copies_take_no_more_of_the_time_than_is_said(monkeypatch):
    """After the first records their time is a share of what has passed, that of what momentum carries counted in."""
    now = [0.0]
    monkeypatch.setattr(budget, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(budget, "FREE", 1)
    own, taken = budget.Budget(), []
    for _ in range(1000):
        now[0] += 0.02
        if not own.refusal():
            own.note(0.0003)
            own.note(0.0005)
            own.closed()
            taken.append(now[0])
    assert len(taken) == 1 + int((now[0] - taken[0]) * budget.MOST_SHARE / 0.0008)


def test_a_coupled_decay_by_hook_is_measured_with_what_its_pass_adds():
    """AdamW has no coupled decay: the plan's lies in the gradient that one copy is given, and the other is not."""
    took = []
    for make in (optim.AdamW, optim.Adam):
        model = make_model()
        optimizer = make(model.parameters(), lr=LR / 10, weight_decay=0.0)
        td.attach(optimizer, td.plan(model, td.coupled(WD), rules=[]), model=model)
        with td.Monitor(optimizer, every_steps=1, by=lambda name: "all") as monitor:
            train(model, optimizer, 3)
        history = monitor.history
        assert history.of("all").source == "shadow" and history.unmeasured == {}
        took.append(values(history, "realized_shrink") + values(history, "carried_shrink"))
    assert min(took[0][:3]) > 0 and took[0] == pytest.approx(took[1], rel=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_scaler_changes_nothing_of_what_is_measured(fused):
    """A fused kernel unscales as it steps, and so do copies; a step that is skipped has no record."""
    took = []
    for scaled in (False, True):
        model = make_model()
        optimizer = optim.Adam(model.parameters(), lr=LR / 10, weight_decay=WD, fused=fused)
        scaler = torch.amp.GradScaler("cpu", enabled=scaled, init_scale=64.0)
        with td.Monitor(optimizer, every_steps=1, by=lambda name: "all") as monitor:
            for step in range(3):
                optimizer.zero_grad()
                x = torch.randn(16, 24, generator=torch.Generator().manual_seed(step))
                scaler.scale(model(x).square().mean()).backward()
                scaler.step(optimizer)
                scaler.update()
        assert monitor.history.unmeasured == {}
        took.append(values(monitor.history, "realized_shrink"))
    assert took[0] == pytest.approx(took[1], rel=1e-4)


def test_steps_that_a_kernel_skips_are_not_followed_as_if_they_were_taken():
    """Whether a fused step was skipped is known on the device; the record after it says that nobody followed."""
    model = make_model()
    optimizer = optim.Adam(model.parameters(), lr=LR / 10, weight_decay=WD, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with td.Monitor(optimizer, every_steps=4, by=lambda name: "all") as monitor:
        for step in range(13):
            optimizer.zero_grad()
            scaler.scale(model(torch.full((16, 24), math.inf if step == 5 else 0.1)).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
    said = {record.step: record.unmeasured.get("all", "") for record in monitor.history}
    skipped = [step for step, why in said.items() if "a gradient scaler had steps skipped" in why]
    assert len(skipped) == 1 and 5 < skipped[0] < 9 and not any(said[step] for step in said if step > 9)


STRANGERS = {
    "lion_pytorch.Lion": 1.0,
    "heavyball.AdamW": 1.0,
    "optimi.StableAdamW": 1.0,
    "pytorch_optimizer.Lamb": None,
    "pytorch_optimizer.Prodigy": None,
    "pytorch_optimizer.SOAP": None,
    "schedulefree.AdamWScheduleFree": None,
}


@pytest.mark.peers
@pytest.mark.parametrize("name", STRANGERS)
def test_optimizers_of_other_libraries_are_measured_and_take_the_same_steps(name):
    """Decoupled ones by lr·weight_decay; others by what their own copies show; none by a bit otherwise."""
    package, _, called = name.partition(".")
    make, factor = getattr(pytest.importorskip(package), called), STRANGERS[name]
    ends = []
    for watched in (False, True):
        torch.manual_seed(1)
        model = make_model()
        optimizer = make(model.parameters(), lr=LR, weight_decay=WD)
        if hasattr(optimizer, "train"):
            optimizer.train()
        with td.Monitor(optimizer, every_steps=1, by=lambda name: "all") if watched else nullcontext() as monitor:
            train(model, optimizer, 3)
        ends.append([*(param.detach().clone() for param in model.parameters()), torch.rand(1)])
    assert monitor.history.unmeasured == {} and len(values(monitor.history, "realized_shrink")) == 3
    if factor is not None:
        assert values(monitor.history, "realized_shrink")[1:] == pytest.approx([factor * LR * WD] * 2, rel=0.05)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
