"""What travels in a checkpoint, who wins when it is loaded, and what is refused."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn, optim
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)

import torchdecay as td
from this_torch import needs_adams_switch

RAMP = td.schedules.linear(0.0, 1.0, 10)


def make_model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()


def zero_gradients(model):
    for param in model.parameters():
        param.grad = torch.zeros_like(param)


def weights(model):
    return [param.detach().clone() for param in model.parameters()]


def same(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def attached(decay, cls=optim.AdamW, *, model=None, steps=0, **options):
    model = model or make_model()
    optimizer = cls(model.parameters(), lr=0.1, weight_decay=0.02)
    handle = td.attach(optimizer, td.plan(model, decay, rules=()), model=model, **options)
    for _ in range(steps):
        zero_gradients(model)
        optimizer.step()
    return model, optimizer, handle


def through_a_file(state):
    """Saved and read back as torch does by default: nothing but plain values and tensors."""
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


@pytest.mark.parametrize(
    "decay", [td.decoupled(0.1, schedule=RAMP), td.l1(0.1, schedule=RAMP), td.independent(0.1)], ids=repr
)
def test_a_checkpoint_is_plain_values(decay):
    """`torch.load` with weights_only reads it; the counters and the peak are there."""
    _, optimizer, _ = attached(decay, steps=3)
    saved = through_a_file(optimizer.state_dict())["torchdecay"]
    assert saved["groups"][0]["steps"] == 3
    assert saved["groups"][0]["max_lr"] == (0.1 if decay.scale.needs_max_lr else None)


def test_nothing_foreign_stands_in_the_parameters_state():
    """Adam breaks on foreign keys there."""
    model, optimizer, _ = attached(td.l1(0.1), optim.Adam, steps=2)
    assert set(optimizer.state[model[0].weight]) == {"step", "exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize("form", [td.decoupled, td.l1])
def test_load_rewrites_weight_decay_and_takes_the_counters(form):
    """The saved weight_decay does not replace the configured one; the schedule goes on where the checkpoint was."""
    _, old, _ = attached(form(0.4, schedule=RAMP), steps=3)
    state = through_a_file(old.state_dict())
    state["param_groups"][0]["weight_decay"] = 0.77
    model, optimizer, _ = attached(form(0.1, schedule=RAMP), steps=1)
    optimizer.load_state_dict(state)
    now = optimizer.param_groups[0]
    assert now["weight_decay"] == (0.1 * 0.3 if form is td.decoupled else 0.0)
    assert now["torchdecay"].startswith("attached: ")
    zero_gradients(model)
    optimizer.step()
    assert optimizer.state_dict()["torchdecay"]["groups"][0]["steps"] == 4
    # The seeded fault: torch alone lets the checkpoint win.
    plain = optim.AdamW(make_model().parameters(), lr=0.1, weight_decay=0.1)
    plain.load_state_dict(state)
    assert plain.param_groups[0]["weight_decay"] == 0.77


def test_a_checkpoint_from_before_torchdecay_is_loaded_and_weight_decay_is_ours():
    """It says nothing about a plan, so the plan goes on; counters stay as they are."""
    plain = optim.AdamW(make_model().parameters(), lr=0.3, weight_decay=0.77)
    _, optimizer, _ = attached(td.decoupled(0.1), steps=2)
    optimizer.load_state_dict(plain.state_dict())
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    assert optimizer.state_dict()["torchdecay"]["groups"][0]["steps"] == 2


@needs_adams_switch
def test_a_checkpoint_can_not_switch_adam_back_to_coupled():
    """The key in the saved group would turn decoupled decay into coupled, silently."""
    coupled = optim.Adam(make_model().parameters(), lr=0.1, weight_decay=0.5)
    model = make_model()
    optimizer = optim.Adam(model.parameters(), lr=0.1, decoupled_weight_decay=True)
    td.attach(optimizer, td.plan(model, td.decoupled(0.3), rules=()), model=model)
    optimizer.load_state_dict(coupled.state_dict())
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is True
    before = weights(model)
    zero_gradients(model)
    optimizer.step()
    assert same(weights(model), [w * (1 - 0.1 * 0.3) for w in before])


@pytest.mark.parametrize(
    ("on_load", "coefficient", "steps"), [("plan", 0.1, 3), ("checkpoint", 0.4, 3), ("equal", None, None)]
)
def test_on_load_says_whose_coefficients_win(on_load, coefficient, steps):
    """Ours, the checkpoint's, or an error that shows the difference and changes nothing."""
    _, old, _ = attached(td.decoupled(0.4), steps=3)
    _, optimizer, handle = attached(td.decoupled(0.1), on_load=on_load)
    before = copy.deepcopy(optimizer.state_dict())
    if coefficient is None:
        with pytest.raises(td.LoadError, match=r"decoupled\(0\.4\) -> decoupled\(0\.1\)[\s\S]*on_load="):
            optimizer.load_state_dict(old.state_dict())
        assert optimizer.state_dict() == before
        return
    optimizer.load_state_dict(old.state_dict())
    assert handle.plan["0.weight"].decay == td.decoupled(coefficient)
    assert optimizer.param_groups[0]["weight_decay"] == coefficient
    assert optimizer.state_dict()["torchdecay"]["groups"][0]["steps"] == steps


def test_on_load_equal_takes_an_equal_checkpoint():
    """The guard is not in the way of a run that goes on as it was."""
    _, old, _ = attached(td.decoupled(0.4, schedule=RAMP), steps=3)
    _, optimizer, _ = attached(td.decoupled(0.4, schedule=RAMP), on_load="equal")
    optimizer.load_state_dict(through_a_file(old.state_dict()))
    assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.4 * 0.3)


def test_on_load_checkpoint_takes_the_schedule_too():
    """How hard it pulls is coefficient, schedule and peak together."""
    _, old, _ = attached(td.decoupled(0.4, schedule=RAMP), steps=5)
    _, optimizer, handle = attached(td.decoupled(0.1), on_load="checkpoint")
    optimizer.load_state_dict(old.state_dict())
    assert handle.plan["0.weight"].decay == td.decoupled(0.4, schedule=RAMP)
    assert optimizer.param_groups[0]["weight_decay"] == 0.4 * 0.5


def test_a_schedule_that_json_can_only_describe_still_loads():
    """A lambda is compared by its description; the plan's own runs."""
    halves = lambda step: 0.5  # noqa: E731
    _, old, _ = attached(td.decoupled(0.4, schedule=halves), steps=2)
    for on_load in ("plan", "checkpoint", "equal"):
        _, optimizer, _ = attached(td.decoupled(0.4, schedule=halves), on_load=on_load)
        optimizer.load_state_dict(through_a_file(old.state_dict()))
        assert optimizer.param_groups[0]["weight_decay"] == 0.2


@pytest.mark.parametrize("on_load", ["plan", "checkpoint", "equal"])
@pytest.mark.parametrize("name", ["form", "who"])
def test_another_who_or_form_is_an_error_with_the_diff_and_changes_nothing(on_load, name):
    """Whatever on_load says: the weights would silently be pulled elsewhere."""
    _, old, _ = attached(td.decoupled(0.1), steps=3)
    state = old.state_dict()
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    plan = td.plan(model, td.coupled(0.1), rules=()) if name == "form" else td.plan(model, td.decoupled(0.1))
    handle = td.attach(optimizer, plan, model=model, on_load=on_load)
    before = copy.deepcopy(optimizer.state_dict())
    shown = r"decoupled\(0\.1\) -> coupled" if name == "form" else r"~ 0\.bias: decay decoupled\(0\.1\) -> None"
    with pytest.raises(td.LoadError, match=shown):
        optimizer.load_state_dict(state)
    assert optimizer.state_dict() == before
    assert handle.plan is plan
    zero_gradients(model)
    optimizer.step()


def test_a_checkpoint_of_a_newer_version_is_refused():
    """It may mean something that this version does not know."""
    _, optimizer, _ = attached(td.decoupled(0.1))
    state = optimizer.state_dict()
    state["torchdecay"] = {**state["torchdecay"], "version": 99}
    with pytest.raises(td.LoadError, match=r"version 99[\s\S]*Upgrade"):
        optimizer.load_state_dict(state)


def test_a_load_that_torch_refuses_leaves_the_next_load_clean():
    """torch checks the group sizes after our check: what was read must not leak into the load after."""
    _, optimizer, _ = attached(td.decoupled(0.1), steps=1)
    _, old, _ = attached(td.decoupled(0.1), steps=7)
    bad = old.state_dict()
    bad["param_groups"] = []
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict(bad)
    optimizer.load_state_dict(optim.AdamW(make_model().parameters()).state_dict())
    assert optimizer.state_dict()["torchdecay"]["groups"][0]["steps"] == 1


def test_the_peak_is_kept_over_a_resume():
    """It was looked up at the first step; later the learning rate no longer shows it."""
    model, old, _ = attached(td.independent(0.5), steps=1)
    old.param_groups[0]["lr"] = 0.025
    state = through_a_file(old.state_dict())
    model, optimizer, _ = attached(td.independent(0.5))
    optimizer.load_state_dict(state)
    before = weights(model)
    zero_gradients(model)
    optimizer.step()
    for new, weight in zip(weights(model), before, strict=True):
        assert torch.allclose(new, weight * (1 - 0.025 / 0.1 * 0.5), rtol=1e-15)


@pytest.mark.parametrize("loss", [False, True])
def test_toward_initial_asks_for_the_reference_of_the_run_that_is_resumed(loss):
    """A fresh process starts from other weights: pulling there would go unnoticed."""
    form = (
        td.penalized(0.1).replace(reference=td.toward("initial", 0.1).reference) if loss else td.toward("initial", 0.1)
    )
    model, old, handle = attached(form, optim.SGD)
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    handle.penalty(model)
    old.step()
    references = {name: tensor.clone() for name, tensor in handle.state_dict().items()}
    state = through_a_file(old.state_dict())
    for seed, fine in ((0, True), (1, False)):
        _, optimizer, fresh = attached(form, optim.SGD, model=make_model(seed))
        if not fine:
            with pytest.raises(td.LoadError, match=r"not those of the run[\s\S]*handle\.load_state_dict"):
                optimizer.load_state_dict(state)
            fresh.load_state_dict(through_a_file(references))
        optimizer.load_state_dict(state)
        assert all(torch.equal(fresh.state_dict()[name], tensor) for name, tensor in references.items())


def test_toward_bound_tensors_asks_for_the_same_tensors():
    """Tensors that only memory holds are known by their hash."""
    pretrained = {name: torch.ones_like(p) for name, p in make_model().named_parameters()}
    bound = {"bind": {"pretrained": pretrained}}
    _, old, _ = attached(td.toward("pretrained", 0.1), optim.SGD, **bound)
    _, optimizer, _ = attached(td.toward("pretrained", 0.1), optim.SGD, **bound)
    optimizer.load_state_dict(old.state_dict())
    others = {"bind": {"pretrained": {name: tensor * 2 for name, tensor in pretrained.items()}}}
    _, optimizer, _ = attached(td.toward("pretrained", 0.1), optim.SGD, **others)
    with pytest.raises(td.LoadError, match="bind the same tensors"):
        optimizer.load_state_dict(old.state_dict())


def test_a_moving_average_is_hashed_as_it_is_when_saved():
    """It moves at every step, so that a hash from before would refuse its own checkpoint."""
    form = td.forms.toward_average(0.1, beta=0.5)
    model, optimizer, handle = attached(form, optim.SGD)
    saves = []
    for _ in range(3):
        for param in model.parameters():
            param.grad = torch.ones_like(param)
        optimizer.step()
        saves.append((through_a_file(optimizer.state_dict()), copy.deepcopy(handle.state_dict())))
    for state, averages in saves:
        _, other, fresh = attached(form, optim.SGD)
        fresh.load_state_dict(averages)
        other.load_state_dict(state)


def test_references_of_other_names_or_shapes_are_refused_whole():
    """handle.load_state_dict changes all or nothing."""
    _, _, handle = attached(td.toward("initial", 0.1), optim.SGD)
    before = {name: tensor.clone() for name, tensor in handle.state_dict().items()}
    good = {name: tensor + 1 for name, tensor in before.items()}
    for bad in (
        {**good, "0.wieght": torch.ones(1)},
        {name: tensor for name, tensor in good.items() if name != "2.bias"},
        {**good, "2.bias": torch.ones(9)},
    ):
        with pytest.raises(td.LoadError):
            handle.load_state_dict(bad)
        assert all(torch.equal(handle.state_dict()[name], tensor) for name, tensor in before.items())
    handle.load_state_dict(good)
    assert all(torch.equal(handle.state_dict()[name], tensor) for name, tensor in good.items())


def test_update_keeps_the_first_initial_reference():
    """Where the run began does not change because its coefficient does."""
    model, optimizer, handle = attached(td.toward("initial", 0.1), optim.SGD)
    start = weights(model)
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    optimizer.step()
    handle.update(td.plan(model, td.toward("initial", 0.2), rules=()))
    assert same(list(handle.state_dict().values()), start)


def test_the_first_initial_reference_outlasts_a_pause():
    """A plan that pulls elsewhere for a while is no new beginning; a parameter that took the name has its own."""
    model, optimizer, handle = attached(td.toward("initial", 0.1), optim.SGD)
    start = copy.deepcopy(handle.state_dict())
    for decay in (0.0, td.l1(0.1)):
        for param in model.parameters():
            param.data += 1
        handle.update(td.plan(model, decay, rules=()))
        assert all(name.startswith("paused/") for name in handle.state_dict())
    model[2].bias = optimizer.param_groups[0]["params"][3] = nn.Parameter(torch.full((2,), 9.0, dtype=torch.float64))
    handle.update(td.plan(model, td.toward("initial", 0.2), rules=()))
    found = handle.state_dict()
    assert all(torch.equal(found[name], start[name]) for name in ("0.weight", "0.bias", "2.weight"))
    assert found["2.bias"].tolist() == [9.0, 9.0]


def test_a_checkpoint_that_is_loaded_second_brings_its_own_references():
    """accelerate loads an optimizer's own state into it when it prepares it; what was given by hand wins."""
    (_, one, first), (_, two, second) = (
        attached(td.toward("initial", 0.1), model=make_model(seed), save_references=True) for seed in (0, 1)
    )
    for optimizer in (two, one):
        two.load_state_dict(through_a_file(optimizer.state_dict()))
    assert same(first.state_dict().values(), second.state_dict().values())
    second.load_state_dict({name: tensor + 1 for name, tensor in first.state_dict().items()})
    with pytest.raises(td.LoadError, match="not those of the run"):
        two.load_state_dict(through_a_file(one.state_dict()))


@pytest.mark.parametrize(
    "way", ["references in the optimizer's", "the handle's", "the handle's, late", "by name", "lost"]
)
@pytest.mark.parametrize("meanwhile", [td.l1(0.1), td.forms.toward_average(0.1)], ids=repr)
def test_a_checkpoint_of_a_pause_knows_where_the_run_began(way, meanwhile):
    """Whichever way it was saved; where it was not, the plan that needs it is refused, and not begun anew."""
    model = make_model()
    old = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(
        old, td.plan(model, td.toward("initial", 0.1), rules=()), model=model, save_references=way[0] in "rb"
    )
    start = copy.deepcopy(handle.state_dict())
    other = td.plan(model, meanwhile, rules=())
    handle.update(other)
    for param in model.parameters():
        param.data += 1
    saved, beside = through_a_file(old.state_dict()), through_a_file(handle.state_dict())
    averages = {name: one for name, one in beside.items() if not name.startswith("paused/")}
    model = make_model(1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, other, model=model)
    if way[0] not in "rb":
        handle.load_state_dict(beside if way == "the handle's" else averages)
    td.load_optimizer(optimizer, saved, model=model) if way == "by name" else optimizer.load_state_dict(saved)
    again = td.plan(model, td.toward("initial", 0.2), rules=())
    if way in ("lost", "the handle's, late"):
        with pytest.raises(td.ApplyError, match="where the run began did not come along"):
            handle.update(again)
        assert handle.plan == other and set(optimizer.state_dict()["torchdecay"]["paused"]) == set(start)
    if way == "the handle's, late":
        handle.load_state_dict(beside)
    if way != "lost":
        handle.update(again)
        found = handle.state_dict()
        assert found.keys() == start.keys() and same(found.values(), start.values())


@pytest.mark.parametrize("way", ["in the optimizer's", "the handle's"])
def test_a_checkpoint_may_know_where_a_parameter_began_that_is_gone(way):
    """It was taken out of the optimizer; where it comes back without its beginning, that is said."""
    model, old, handle = attached(td.toward("initial", 0.1), save_references=way != "the handle's")
    gone = [old.param_groups[0]["params"].pop() for _ in range(2)]
    zero_gradients(model)
    old.step()
    saved, beside = through_a_file(old.state_dict()), through_a_file(handle.state_dict())
    assert {"paused/2.weight", "paused/2.bias"} < beside.keys()
    optimizer = optim.AdamW(model[0].parameters(), lr=0.1)
    plan = td.plan(model, td.toward("initial", 0.1), rules=())
    for param in model.parameters():
        param.data += 1
    resumed = td.attach(optimizer, plan, model=model)
    if way == "the handle's":
        resumed.load_state_dict(beside)
    optimizer.load_state_dict(saved)
    found = resumed.state_dict()
    assert found.keys() == {"0.weight", "0.bias"} and all(torch.equal(found[name], beside[name]) for name in found)
    optimizer.add_param_group({"params": gone})
    with pytest.raises(td.ApplyError, match="where the run began did not come along"):
        resumed.update(plan)


def test_a_plan_that_comes_after_a_load_owes_what_the_checkpoint_says():
    """And not what the weights of before the load owed, to a plan that was removed."""
    weights = {}
    for rolls_back in (False, True):
        model = make_model().bfloat16()
        _, optimizer, handle = attached(td.decoupled(0.003), model=model, steps=3)
        begun, saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        owed = dict(handle.debts)
        assert owed and any(owed.values())
        if rolls_back:
            zero_gradients(model)
            optimizer.step()
            handle.remove()
            model.load_state_dict(begun)
            optimizer.load_state_dict(saved)
            handle = td.attach(optimizer, handle.plan, model=model)
        assert handle.debts == owed
        for _ in range(20):
            zero_gradients(model)
            optimizer.step()
        weights[rolls_back] = [param.detach().clone() for param in model.parameters()]
    assert same(weights[False], weights[True])


FORMS = [
    td.native(0.1),
    td.coupled(0.1),
    td.decoupled(0.1),
    td.independent(0.1),
    td.per_step(0.1),
    td.penalized(0.1),
    td.l1(0.1),
    td.elastic_net(l1=0.1, l2=0.1),
    td.toward("initial", 0.1),
]


@pytest.mark.parametrize("decay", FORMS, ids=repr)
@pytest.mark.parametrize("cls", [optim.SGD, optim.Adam, optim.AdamW], ids=lambda cls: cls.__name__)
@pytest.mark.filterwarnings("error")
def test_the_step_that_distributed_checkpoint_takes_leaves_weights_and_counters(decay, cls):
    """torch.distributed.checkpoint steps an unstepped optimizer once, at learning rate 0, to make its state."""
    model, optimizer, _ = attached(decay, cls)
    before = weights(model)
    get_optimizer_state_dict(model, optimizer)
    assert same(weights(model), before)
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert optimizer.state_dict()["torchdecay"]["groups"][0]["steps"] == 0


def test_a_naive_per_step_hook_moves_weights_in_distributed_checkpoints_step():
    """The seeded fault of the test above."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)

    def hook(optimizer, args, kwargs):
        with torch.no_grad():
            for param in model.parameters():
                param.mul_(0.9)

    optimizer.register_step_pre_hook(hook)
    before = weights(model)
    get_optimizer_state_dict(model, optimizer)
    assert not same(weights(model), before)


@pytest.mark.parametrize("flat", [False, True])
def test_counters_and_peak_survive_distributed_checkpoint(flat):
    """It keeps "state" and "param_groups" and drops every other key, so the groups' marks carry them."""
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    for decay in (td.decoupled(0.4, schedule=RAMP), td.independent(0.5)):
        model, old, _ = attached(decay, steps=3)
        old.param_groups[0]["lr"] = 0.02
        saved = get_optimizer_state_dict(model, old, options=options)
        assert "torchdecay" not in saved
        model, optimizer, _ = attached(decay)
        set_optimizer_state_dict(model, optimizer, saved, options=options)
        ours, theirs = (one.state_dict()["torchdecay"]["groups"] for one in (optimizer, old))
        assert ours == theirs == [{"steps": 3, "max_lr": 0.1 if decay.scale.needs_max_lr else None}]
        assert optimizer.param_groups[0]["torchdecay"] == old.param_groups[0]["torchdecay"]


def distributed(optimizer, model):
    """torch.distributed.checkpoint's state dict, and what it makes of it when it loads."""
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    return lambda model, optimizer: set_optimizer_state_dict(model, optimizer, saved)


def test_distributed_checkpoint_asks_for_the_references_of_the_run_that_is_resumed():
    """It carries no tensors of a plan, and the new job's own first weights are not where the run began."""
    model, old, handle = attached(td.toward("initial", 0.1), optim.SGD)
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    old.step()
    load, references = distributed(old, model), copy.deepcopy(handle.state_dict())
    model, optimizer, handle = attached(td.toward("initial", 0.1), optim.SGD, model=make_model(1))
    with pytest.raises(
        td.LoadError, match=r"not those of the run[\s\S]*handle\.load_state_dict[\s\S]*distributed\.checkpoint"
    ):
        load(model, optimizer)
    assert handle.steps(0) == 0
    handle.load_state_dict(references)
    load(model, optimizer)
    assert handle.steps(0) == 1


class App:
    """Model and optimizer, as the tutorial of torch.distributed.checkpoint has them."""

    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer

    def state_dict(self):
        return dict(zip(("model", "optimizer"), get_state_dict(self.model, self.optimizer), strict=True))

    def load_state_dict(self, state):
        model, optimizer = state["model"], state["optimizer"]
        set_state_dict(self.model, self.optimizer, model_state_dict=model, optim_state_dict=optimizer)


@pytest.mark.parametrize("decay", [td.toward("initial", 0.1), td.forms.toward_average(0.1)], ids=repr)
@pytest.mark.parametrize("name", ["a handle", "the handle"])
@pytest.mark.filterwarnings("ignore:torch.distributed is")
def test_distributed_checkpoint_takes_the_handle_beside_the_rest(decay, name, tmp_path):
    """In files, whether it comes before the optimizer in their order or after it."""
    runs = [attached(decay, optim.SGD, model=make_model(seed)) for seed in (0, 1)]
    for number, (model, optimizer, handle) in enumerate(runs):
        if number:
            dcp.load({"app": App(model, optimizer), name: handle}, checkpoint_id=tmp_path)
        for step in range(2 if number else 4):
            for param in model.parameters():
                param.grad = torch.ones_like(param)
            optimizer.step()
            if not number and step == 1:
                dcp.save({"app": App(model, optimizer), name: handle}, checkpoint_id=tmp_path)
    assert same(weights(runs[0][0]), weights(runs[1][0])) and runs[1][2].steps(0) == 4


def test_distributed_checkpoint_knows_which_coefficients_and_forms_differ():
    """Each group's mark has them: whose win can be said, and the difference is shown."""
    model, old, _ = attached(td.decoupled(0.4, schedule=RAMP), steps=3)
    load = distributed(old, model)
    for decay, on_load, said in (
        (td.decoupled(0.1, schedule=RAMP), "equal", r'(?s)on_load is "equal".*~ 0.weight: decay .*0\.4.*0\.1'),
        (td.cautious(0.4), "plan", r"(?s)another plan.*~ 0.weight: decay decoupled\(0.4.* -> cautious\(0.4\)"),
    ):
        model, optimizer, handle = attached(decay, on_load=on_load)
        with pytest.raises(td.LoadError, match=said):
            load(model, optimizer)
        assert handle.steps(0) == 0 and handle.plan["0.weight"].decay == decay
    for mine, on_load, then in ((0.1, "plan", 0.1), (0.4, "equal", 0.4), (0.1, "checkpoint", 0.4)):
        model, optimizer, handle = attached(td.decoupled(mine, schedule=RAMP), on_load=on_load)
        load(model, optimizer)
        assert handle.steps(0) == 3 and handle.plan["0.weight"].decay.coefficient == then


def test_a_plan_that_comes_after_torchs_own_load_takes_the_coefficients_of_the_checkpoint():
    """Of a whole checkpoint torch keeps the groups, whose marks have them."""
    model, old, _ = attached(td.decoupled(0.4))
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    optimizer.load_state_dict(old.state_dict())
    plan = td.plan(model, td.decoupled(0.1), rules=())
    assert td.attach(optimizer, plan, model=model, on_load="checkpoint").plan["0.weight"].decay == td.decoupled(0.4)


def test_low_precision_debts_travel_in_distributed_checkpoints():
    model = make_model().bfloat16()
    model, old, handle = attached(td.decoupled(0.001), optim.SGD, model=model, steps=3)
    load, owed = distributed(old, model), handle.debts
    model, optimizer, handle = attached(td.decoupled(0.001), optim.SGD, model=make_model(1).bfloat16())
    load(model, optimizer)
    assert handle.debts == owed and all(owed.values())


def two_groups(model, order):
    pairs = [list(model[0].named_parameters("0")), list(model[2].named_parameters("2"))]
    optimizer = optim.SGD([{"params": pairs[place]} for place in order], lr=0.1, momentum=0.9)
    return optimizer, td.attach(optimizer, td.plan(model, td.decoupled(0.1), rules=()))


def test_groups_in_another_order_are_refused_where_torch_goes_by_place():
    """The plan knows whose moments they are; by name they find their way."""
    model = make_model()
    old, _ = two_groups(model, (0, 1))
    zero_gradients(model)
    old.step()
    optimizer, handle = two_groups(make_model(1), (1, 0))
    with pytest.raises(td.LoadError, match=r"another order[\s\S]*load_optimizer"):
        optimizer.load_state_dict(old.state_dict())
    assert not optimizer.state and handle.steps(0) == 0
    td.load_optimizer(optimizer, old.state_dict())
    assert handle.steps(0) == 1


def test_groups_of_different_plans_are_refused():
    """As where a format has put together what two optimizers left."""
    old, _ = two_groups(make_model(), (0, 1))
    state = old.state_dict()
    del state["torchdecay"], state["param_groups"][1]["torchdecay"]
    optimizer, _ = two_groups(make_model(), (0, 1))
    with pytest.raises(td.LoadError, match="some groups"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize(("there", "here"), [(optim.SGD, optim.AdamW), (optim.RMSprop, optim.Adagrad)])
def test_a_checkpoint_of_another_class_is_refused_under_a_plan(there, here):
    """torch takes it, and breaks, or goes wrong, in a later step."""
    _, old, _ = attached(td.decoupled(0.1), there, steps=1)
    _, optimizer, _ = attached(td.decoupled(0.1), here)
    before = str(optimizer.state_dict())
    with pytest.raises(td.LoadError, match=f"not of {here.__name__}"):
        optimizer.load_state_dict(old.state_dict())
    assert str(optimizer.state_dict()) == before


@pytest.mark.parametrize("on_load", ["plan", "checkpoint"])
def test_a_checkpoint_whose_next_step_would_be_refused_is_refused_itself(on_load):
    """Its learning rate times the coefficient takes whole weights: known before anything has changed."""
    model = make_model()
    old = optim.AdamW(model.parameters(), lr=0.1)
    coefficient = 0.1 if on_load == "checkpoint" else 0.01
    td.attach(old, td.plan(model, td.decoupled(coefficient), rules=()), model=model)
    state = copy.deepcopy(old.state_dict())
    state["param_groups"][0]["lr"] = 20.0 if on_load == "checkpoint" else 200.0
    _, optimizer, handle = attached(td.decoupled(0.01), on_load=on_load)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(td.ApplyError, match="of each weight per step"):
        optimizer.load_state_dict(state)
    assert optimizer.state_dict() == before and handle.steps(0) == 0


def test_another_form_is_refused_by_the_mark_alone():
    """A checkpoint without the plan can't show the difference, but does not hide it."""
    _, old, _ = attached(td.decoupled(0.1), steps=3)
    state = old.state_dict()
    del state["torchdecay"]
    _, optimizer, _ = attached(td.coupled(0.1))
    with pytest.raises(td.LoadError, match="written under another plan"):
        optimizer.load_state_dict(state)


def test_a_mark_that_says_not_attached_or_no_counters_is_no_state():
    """Groups that were built from a plan and never attached carry a mark too."""
    model = make_model()
    plan = td.plan(model, td.l1(0.1), rules=())
    never = optim.AdamW(plan.param_groups(model), lr=0.1)
    _, optimizer, _ = attached(td.l1(0.1), steps=2)
    optimizer.load_state_dict(never.state_dict())
    assert optimizer.state_dict()["torchdecay"]["groups"][0]["steps"] == 2


@pytest.mark.parametrize(
    "decay", [td.decoupled(0.1, schedule=RAMP), td.independent(0.1), td.forms.constrained(kappa_initial=0.5)], ids=repr
)
def test_a_checkpoint_may_be_loaded_before_the_plan_is_attached(decay):
    """Many do it in this order: counters, peaks and controllers are in the groups' marks still."""
    model, old, _ = attached(decay, steps=3)
    old.param_groups[0]["lr"] = 0.02
    state = through_a_file(old.state_dict())
    resumed = copy.deepcopy(model)
    optimizer = optim.AdamW(resumed.parameters(), lr=0.1, weight_decay=0.02)
    optimizer.load_state_dict(state)
    handle = td.attach(optimizer, td.plan(resumed, decay, rules=()), model=resumed)
    for one, its in ((model, old), (resumed, optimizer)):
        zero_gradients(one)
        its.step()
    assert same(weights(model), weights(resumed)) and handle.steps(0) == 4
    handle.remove()
    assert "torchdecay" not in optimizer.param_groups[0]
    assert td.attach(optimizer, td.plan(resumed, td.l1(0.1), rules=()), model=resumed).steps(0) == 0


@pytest.mark.parametrize("resume", ["continue", "restart"])
@pytest.mark.parametrize("load", ["whole", "named", "copied"])
def test_what_a_plan_displaced_is_known_after_a_resume(load, resume):
    """The weight_decay that is loaded is what the plan wrote; without it again, that from before decays."""
    model, old, handle = attached(td.l1(0.5), steps=1)
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.03)
    if load == "whole":
        optimizer.load_state_dict(through_a_file(old.state_dict()))
    elif load == "named":
        distributed(old, model)(model, optimizer)
    else:
        model, optimizer = copy.deepcopy((model, old))
    resumed = td.attach(optimizer, handle.plan, model=model, resume=resume)
    assert resumed.lowering.groups[0].replaces == 0.02 and optimizer.param_groups[0]["weight_decay"] == 0.0
    resumed.remove()
    assert optimizer.param_groups[0]["weight_decay"] == 0.02 and "torchdecay" not in optimizer.param_groups[0]


def test_what_was_loaded_before_another_plan_is_attached_is_refused():
    """As it is if it comes after; references and rows that owe are not in the marks."""
    for decay, other, said in (
        (td.decoupled(0.1), td.coupled(0.1), "another plan"),
        (td.toward("initial", 0.1), td.toward("initial", 0.1), "attach, then call"),
    ):
        model, old, _ = attached(decay)
        for param in model.parameters():
            param.grad = torch.ones_like(param)
        old.step()
        state, model = through_a_file(old.state_dict()), make_model(1)
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        optimizer.load_state_dict(state)
        with pytest.raises(td.LoadError, match=said):
            td.attach(optimizer, td.plan(model, other, rules=()), model=model)


def test_a_copy_of_a_handle_is_at_work_on_a_copy_of_its_optimizer():
    """One that held a copy without hooks would decay nothing, and say nothing."""
    model, optimizer, handle = attached(td.toward("initial", 0.1), optim.SGD)
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    optimizer.step()
    copied, trained = copy.deepcopy((handle, model))
    assert copied.optimizer is not optimizer and copied.model is trained and copied.steps(0) == 1
    zero_gradients(model)
    zero_gradients(trained)
    copied.optimizer.step()
    assert not same(weights(model), weights(trained))
    optimizer.step()
    assert same(weights(model), weights(trained))
    copied.remove()
    assert copied.optimizer.param_groups[0]["weight_decay"] == 0.02


def test_the_plan_in_a_checkpoint_is_small_and_that_of_one_optimizer():
    """However many parameters there are, and however many optimizers have a part of one plan."""
    sizes = []
    for layers in (10, 300):
        model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(layers)))
        plan = td.plan(model, td.decoupled(0.1))
        optimizer = optim.AdamW(plan.param_groups(model), lr=0.1)
        td.attach(optimizer, plan)
        stream = io.BytesIO()
        torch.save(optimizer.state_dict()["torchdecay"], stream)
        sizes.append(stream.tell())
    assert sizes[1] < 4_000 and sizes[1] - sizes[0] < 100
    part = optim.AdamW([{"params": [model[0].weight], "param_names": ["0.weight"]}], lr=0.1)
    handle = td.attach(part, plan)
    saved = through_a_file(part.state_dict())
    assert saved["torchdecay"]["plan"]["rows"] == ["0"]
    # What the plan says of the parameters of others is not its affair.
    other = td.plan(model, td.decoupled(0.1), rules=[("299.weight", td.l1(0.1)), *td.STANDARD])
    handle.remove()
    td.attach(part, other).optimizer.load_state_dict(saved)


class AdamWScheduleFree(optim.AdamW):
    """By its name of a family that keeps what it likes."""


def test_a_checkpoint_of_a_family_of_optimizers_may_hold_any_state():
    """Of a class of torch it is known what it keeps, of schedule-free ones and wrappers it is not."""
    model, optimizer, _ = attached(td.coupled(0.1), AdamWScheduleFree, steps=3)
    _, again, handle = attached(td.coupled(0.1), AdamWScheduleFree, model=copy.deepcopy(model))
    again.load_state_dict(through_a_file(optimizer.state_dict()))
    assert handle.steps(0) == 3


class LoadsItself(optim.AdamW):
    """As bitsandbytes' optimizers do."""

    def load_state_dict(self, state_dict):
        state_dict = copy.deepcopy(state_dict)
        params = [param for group in self.param_groups for param in group["params"]]
        state = {params[number]: one for number, one in state_dict["state"].items()}
        groups = [
            new | {"params": old["params"]}
            for old, new in zip(self.param_groups, state_dict["param_groups"], strict=True)
        ]
        self.__setstate__({"state": state, "param_groups": groups})


def test_a_load_that_calls_no_hooks_brings_all_of_the_state():
    """References and coefficients, which no mark holds, as well; another plan is refused at the load."""
    _, old, first = attached(td.toward("initial", 0.1), LoadsItself, steps=2, save_references=True)
    saved = through_a_file(old.state_dict())
    for on_load, coefficient in (("plan", 0.3), ("checkpoint", 0.1)):
        _, optimizer, handle = attached(td.toward("initial", 0.3), LoadsItself, model=make_model(1), on_load=on_load)
        optimizer.load_state_dict(saved)
        assert same(handle.state_dict().values(), first.state_dict().values())
        assert handle.steps(0) == 2 and handle.plan.decay.coefficient == coefficient
        copied, other = copy.deepcopy((optimizer, handle))
        for param in copied.param_groups[0]["params"]:
            param.grad = torch.zeros_like(param)
        copied.step()
        copied.load_state_dict(saved)
        assert other.steps(0) == handle.steps(0) == 2 and same(other.state_dict().values(), first.state_dict().values())
        handle.remove()
        assert "load_state_dict" not in vars(optimizer)
    _, optimizer, _ = attached(td.l1(0.1), LoadsItself, model=make_model(1))
    with pytest.raises(td.LoadError, match="another plan"):
        optimizer.load_state_dict(saved)
