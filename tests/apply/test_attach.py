"""Attach, update, remove: who owns `weight_decay`, and what is left when something is refused."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

import torchdecay as td
from this_torch import needs_adams_switch
from torchdecay.apply.handle import handle_of
from torchdecay.errors import ForgottenPenaltyWarning, OwnershipWarning
from torchdecay.plans.regularizers import Huber, SquaredNorm
from warned import no_warning

HOOKS = [
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
]


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()


def zero_gradients(model):
    for param in model.parameters():
        param.grad = torch.zeros_like(param)


def weights(model):
    return [param.detach().clone() for param in model.parameters()]


def same(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def trace(optimizer):
    """All that attach could leave on an optimizer."""
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    orders = [list(group) for group in optimizer.param_groups]
    hooks = [dict(getattr(optimizer, name)) for name in HOOKS]
    state = optimizer.state_dict()
    return (
        copy.deepcopy(groups),
        orders,
        hooks,
        sorted(state),
        copy.deepcopy(state["param_groups"]),
        set(vars(optimizer)),
    )


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
def test_attach_remove_attach_leaves_no_trace(decay, cls):
    """Groups with their order of keys, hooks, state dict and attributes are what they were before."""
    model = make_model()
    optimizer = cls([{"params": model[0].parameters()}, {"params": model[2].parameters()}], lr=0.1, weight_decay=0.02)
    before = trace(optimizer)
    plan = td.plan(model, decay)
    td.attach(optimizer, plan, model=model).remove()
    assert trace(optimizer) == before
    handle = td.attach(optimizer, plan, model=model)
    assert trace(optimizer) != before  # the seeded fault: the trace sees an attached plan
    handle.remove()
    handle.remove()
    assert trace(optimizer) == before


def test_the_context_manager_removes_also_when_its_body_fails():
    """What stood there comes back, whatever happens inside."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=0.02)
    before = trace(optimizer)
    with pytest.raises(KeyError), td.attach(optimizer, td.plan(model, 0.1), model=model):
        raise KeyError
    assert trace(optimizer) == before


def test_attach_reports_what_it_overrides():
    """The weight_decay that stood in each group is in the lowering, also after an update."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=0.02)
    handle = td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model)
    assert handle.lowering.groups[0].replaces == 0.02
    handle.update(td.plan(model, td.decoupled(0.2)))
    assert handle.lowering.groups[0].replaces == 0.02


def test_a_second_attach_is_refused_and_the_first_goes_on():
    """Two plans would decay the weights twice."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model)
    hooks = len(optimizer._optimizer_step_pre_hooks)
    with pytest.raises(td.ApplyError, match=r"attached to this optimizer already[\s\S]*handle\.update"):
        td.attach(optimizer, td.plan(model, td.decoupled(0.2)), model=model)
    assert handle_of(optimizer) is handle
    assert len(optimizer._optimizer_step_pre_hooks) == hooks


def test_an_attached_optimizer_can_be_garbage_collected():
    """A sweep makes hundreds of optimizers; none may be kept alive by its plan."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model)
    gone = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert gone() is None


def test_the_handle_need_not_be_kept():
    """The optimizer's hooks keep it alive."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, td.decoupled(0.1), rules=()), model=model)
    gc.collect()
    before = weights(model)
    zero_gradients(model)
    optimizer.step()
    assert same(weights(model), [w * (1 - 0.1 * 0.1) for w in before])
    assert handle_of(optimizer) is not None


def nan_schedule(step):
    return float("nan")


REFUSED = {
    "lr·wd of 1, native": (optim.AdamW, td.decoupled(10.0), {}),
    "lr·wd of 1, the optimizer's own": (optim.AdamW, td.native(10.0), {}),
    "lr·wd above 1, hook": (optim.SGD, td.decoupled(30.0), {}),
    "lr·wd of 1, coupled SGD": (optim.SGD, td.coupled(10.0), {}),
    "lr·wd of 1, native SGD": (optim.SGD, td.native(10.0), {}),
    "toward": (optim.SGD, td.toward("initial", 10.0), {}),
    "a schedule that returns NaN, native": (optim.AdamW, td.decoupled(0.1, schedule=nan_schedule), {}),
    "a schedule that returns NaN, hook": (optim.SGD, td.decoupled(0.1, schedule=nan_schedule), {}),
    "a name that is not bound": (optim.SGD, td.toward("pretrained", 0.1), {}),
    "via": (optim.SGD, td.decoupled(0.1), {"via": "magic"}),
    "on_load": (optim.SGD, td.decoupled(0.1), {"on_load": "mine"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_attach_that_is_refused_changes_nothing(name):
    """No hook, no mark, no weight_decay is left, and the optimizer can be attached to afterwards."""
    cls, decay, options = REFUSED[name]
    model = make_model()
    optimizer = cls(model.parameters(), lr=0.1, weight_decay=0.02)
    before = trace(optimizer)
    with pytest.raises((td.ApplyError, td.DecayError)):
        td.attach(optimizer, td.plan(model, decay, rules=()), model=model, **options)
    assert trace(optimizer) == before
    td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model)


def test_a_weight_decay_of_10_at_learning_rate_1e_3_is_legal():
    """Short runs need it; only the product counts."""
    for cls in (optim.SGD, optim.AdamW):
        model = make_model()
        optimizer = cls(model.parameters(), lr=1e-3)
        td.attach(optimizer, td.plan(model, td.decoupled(10.0), rules=()), model=model)
        before = weights(model)
        zero_gradients(model)
        optimizer.step()
        assert same(weights(model), [w * (1 - 1e-3 * 10.0) for w in before])


def test_coupled_decay_above_1_over_lr_is_legal_where_the_optimizer_normalizes():
    """Under Adam lr·wd is no fraction of the weight: what comes of it are torch's own bits."""

    def run(wd, decay):
        model = make_model()
        optimizer = optim.Adam(model.parameters(), lr=0.1, weight_decay=wd)
        if decay is not None:
            td.attach(optimizer, td.plan(model, decay, rules=()), model=model)
        zero_gradients(model)
        optimizer.step()
        return weights(model)

    assert same(run(0.0, td.coupled(30.0)), run(30.0, None))
    assert not same(run(0.0, td.coupled(30.0)), run(0.0, None))


@pytest.mark.parametrize("decay", [td.decoupled(5.0), td.native(5.0), td.toward("initial", 5.0)], ids=repr)
@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("via", ["auto", "hook"])
def test_a_scheduler_that_raises_lr_too_far_is_stopped_before_weights_change(decay, cls, via):
    """lr·wd reaches 1 in the middle of a run: the step is refused, weights and gradients are left as they were."""
    model = make_model()
    optimizer = cls(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, decay, rules=()), model=model, via=via)
    zero_gradients(model)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.2
    before = weights(model)
    grads = [param.grad for param in model.parameters()]
    with pytest.raises(td.ApplyError, match=r"would remove 1 of each weight per step"):
        optimizer.step()
    assert same(weights(model), before)
    assert all(param.grad is grad for param, grad in zip(model.parameters(), grads, strict=True))
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    assert optimizer.state_dict()["torchdecay"]["groups"][0]["steps"] == 2


class Bad:
    """A schedule that turns bad at its third step."""

    def __init__(self, value):
        self.value = value

    def __call__(self, step):
        return self.value if step >= 2 else 1.0


@pytest.mark.parametrize("value", [float("nan"), -1.0, float("inf")])
@pytest.mark.parametrize(
    "form", [td.decoupled, td.coupled, td.l1, lambda wd, **k: td.toward("initial", wd, **k)], ids="dclt"
)
@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize("via", ["auto", "hook"])
def test_a_schedule_that_turns_bad_stops_the_step_before_weights_change(value, form, closure, via):
    """Weights, gradients and the written weight_decay are left as they were; the steps before are not."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, form(0.1, schedule=Bad(value)), rules=()), model=model, via=via)

    def evaluate():
        for param in model.parameters():
            param.grad = torch.ones_like(param)
        return None

    def step():
        if closure:
            optimizer.step(evaluate)
        else:
            evaluate()
            optimizer.step()

    step()
    step()
    before, group = weights(model), dict(optimizer.param_groups[0])
    with pytest.raises(td.DecayError, match=r"at step 2[\s\S]*left as they were"):
        step()
    assert same(weights(model), before)
    assert all(torch.equal(param.grad, torch.ones_like(param)) for param in model.parameters())
    assert optimizer.param_groups[0]["weight_decay"] == group["weight_decay"]


def test_another_hand_on_weight_decay_is_noticed_and_undone():
    """The handle owns it: a scheduler of somebody else's would decay twice or not at all."""
    model = make_model()
    plan = td.plan(model, td.decoupled(0.1))
    optimizer = optim.AdamW(plan.param_groups(model), lr=0.1)
    td.attach(optimizer, plan)
    optimizer.param_groups[0]["weight_decay"] = 0.5
    zero_gradients(model)
    before = weights(model)
    with pytest.warns(OwnershipWarning, match=r"group 0: weight_decay was set to 0\.5[\s\S]*handle\.update"):
        optimizer.step()
    assert torch.equal(model[0].weight, before[0] * (1 - 0.1 * 0.1))
    with no_warning():
        optimizer.step()


@needs_adams_switch
@pytest.mark.parametrize("decay", [td.decoupled(0.5), td.coupled(0.5)], ids=repr)
def test_another_hand_on_what_weight_decay_means_is_noticed_and_undone(decay):
    """Adam's switch turns decoupled decay into coupled, and back, under the same number."""
    ends = []
    for disturbed in (False, True):
        model = make_model()
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        td.attach(optimizer, td.plan(model, decay, rules=()), model=model)
        zero_gradients(model)
        group = optimizer.param_groups[0]
        if disturbed:
            group["decoupled_weight_decay"] = not group["decoupled_weight_decay"]
            with pytest.warns(OwnershipWarning, match=r"group 0: decoupled_weight_decay was set to (True|False)"):
                optimizer.step()
        else:
            optimizer.step()
        ends.append(weights(model))
    assert same(*ends)


def test_the_warning_points_at_the_users_line():
    """Three frames of torch and of this package lie between."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model)
    optimizer.param_groups[0]["weight_decay"] = 0.5
    with pytest.warns(OwnershipWarning) as found:
        optimizer.step()
    assert found[0].filename == __file__


def test_a_forgotten_penalty_is_noticed_at_the_first_step_and_at_every_later_one():
    """Without handle.penalty in the loss, LOSS rows do not decay at all."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, td.penalized(0.1)), model=model)
    zero_gradients(model)
    with pytest.warns(ForgottenPenaltyWarning, match="loss = loss \\+ handle.penalty") as found:
        optimizer.step()
    assert found[0].filename == __file__
    with no_warning():
        handle.penalty(model).backward()
        optimizer.step()
    with pytest.warns(ForgottenPenaltyWarning):
        optimizer.step()


def test_a_penalty_inside_a_closure_is_not_forgotten():
    """The closure runs inside the step, so the question is asked after it; and the penalty decays as it says."""
    model = make_model()
    before = weights(model)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, td.penalized(0.1), rules=()), model=model)

    def closure():
        optimizer.zero_grad()
        loss = handle.penalty(model)
        loss.backward()
        return loss

    with no_warning():
        optimizer.step(closure)
        optimizer.step(closure)
    torch.testing.assert_close(weights(model), [w * (1 - 0.1 * 0.1) ** 2 for w in before], rtol=1e-14, atol=0)


def test_a_penalty_for_another_model_is_refused_by_name():
    """A missing parameter is named, with the nearest that is there."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, td.penalized(0.1)), model=model)
    with pytest.raises(td.ApplyError, match=r'no parameter "2\.weight"'):
        handle.penalty(nn.Sequential(nn.Linear(4, 3).double()))


def test_a_group_that_is_added_later_is_taken_over_when_the_plan_knows_it():
    """Fine-tuning adds layers by and by: the plan of the whole model goes on for them."""
    model = make_model()
    optimizer = optim.AdamW(model[0].parameters(), lr=0.1, weight_decay=0.01)
    handle = td.attach(optimizer, td.plan(model, td.decoupled(0.1), rules=()), model=model)
    optimizer.add_param_group({"params": list(model[2].parameters()), "weight_decay": 0.7})
    before = weights(model)
    zero_gradients(model)
    optimizer.step()
    assert same(weights(model), [w * (1 - 0.1 * 0.1) for w in before])
    assert {row.name for row in handle.lowering.rows} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    handle.remove()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.7]


def test_a_group_that_the_plan_does_not_know_is_an_error_until_update():
    """Nothing changes at the step that is refused; handle.update(new plan) goes on."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, td.decoupled(0.1), rules=()), model=model)
    zero_gradients(model)
    optimizer.step()
    model.append(nn.Linear(2, 2).double())
    optimizer.add_param_group({"params": list(model[3].parameters())})
    zero_gradients(model)
    before = weights(model)
    with pytest.raises(td.ApplyError, match=r'no row for "3\.weight"[\s\S]*handle\.update'):
        optimizer.step()
    with pytest.raises(td.ApplyError, match=r'no row for "3\.weight"'):
        optimizer.load_state_dict(optimizer.state_dict())
    assert same(weights(model), before)
    handle.update(td.plan(model, td.decoupled(0.1), rules=()))
    optimizer.step()
    assert same(weights(model), [w * (1 - 0.1 * 0.1) for w in before])
    assert [group["steps"] for group in optimizer.state_dict()["torchdecay"]["groups"]] == [2, 1]


def test_a_parameter_that_is_unfrozen_later_is_not_left_out_silently():
    """The plan has no row for what was frozen: training it without decay would go unnoticed."""
    model = make_model()
    model[0].weight.requires_grad_(False)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, td.decoupled(0.1), rules=()), model=model)
    zero_gradients(model)
    optimizer.step()
    model[0].weight.requires_grad_(True)
    with pytest.raises(td.ApplyError, match=r'no row for "0\.weight"[\s\S]*was frozen when the plan was made'):
        optimizer.step()
    handle.update(td.plan(model, td.decoupled(0.1), rules=()))
    before = weights(model)
    optimizer.step()
    assert same(weights(model), [w * (1 - 0.1 * 0.1) for w in before])


def test_parameters_that_were_replaced_in_place_are_noticed():
    """Sharding libraries swap the tensors inside the groups; hooks on the old ones would do nothing."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, td.decoupled(0.1), rules=()), model=model)
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())
    optimizer.param_groups[0]["params"][0] = model[0].weight
    before = weights(model)
    zero_gradients(model)
    optimizer.step()
    assert same(weights(model), [w * (1 - 0.1 * 0.1) for w in before])


def test_update_changes_a_running_job_and_keeps_its_counters():
    """The new coefficient acts from the next step; the schedule goes on where it was."""
    model = make_model()
    plan = td.plan(model, td.decoupled(0.1, schedule=td.schedules.linear(0.0, 1.0, 4)), rules=())
    optimizer = optim.AdamW(plan.param_groups(model), lr=0.1)
    handle = td.attach(optimizer, plan)
    zero_gradients(model)
    optimizer.step()
    optimizer.step()
    handle.update(td.plan(model, td.decoupled(0.4, schedule=td.schedules.linear(0.0, 1.0, 4)), rules=()))
    before = weights(model)
    optimizer.step()
    assert same(weights(model), [w * (1 - 0.1 * (0.4 * 0.5)) for w in before])


def test_an_update_that_is_refused_leaves_the_old_plan_at_work():
    """Nothing of the new plan is written before all of it is known to work."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    old = td.plan(model, td.decoupled(0.1), rules=())
    handle = td.attach(optimizer, old, model=model)
    before = trace(optimizer)
    for bad in (td.decoupled(10.0), td.decoupled(0.1, schedule=nan_schedule), td.toward("unbound", 0.1)):
        with pytest.raises((td.ApplyError, td.DecayError)):
            handle.update(td.plan(model, bad, rules=()))
        assert handle.plan is old
        assert trace(optimizer) == before


def test_update_from_native_to_hook_and_back():
    """A form that the optimizer has not runs by hook, and its own weight_decay is 0 meanwhile."""
    model = make_model()
    plan = td.plan(model, td.decoupled(0.1), rules=())
    optimizer = optim.AdamW(plan.param_groups(model), lr=0.1)
    handle = td.attach(optimizer, plan)
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    handle.update(td.plan(model, td.l1(0.1), rules=()))
    assert optimizer.param_groups[0]["weight_decay"] == 0.0
    assert {row.route for row in handle.lowering.rows} == {"hook"}
    handle.update(plan)
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


@pytest.mark.parametrize("cls", [optim.Adam, optim.NAdam, optim.RAdam], ids=lambda cls: cls.__name__)
def test_adam_is_switched_to_decoupled_and_back(cls):
    """The key goes with the plan and is restored; the bits are those of the optimizer so configured."""

    def run(optimizer, model):
        for step in range(3):
            for param in model.parameters():
                param.grad = torch.full_like(param, step - 1.0)
            optimizer.step()
        return weights(model)

    model = make_model()
    expected = run(cls(model.parameters(), lr=0.1, weight_decay=0.3, decoupled_weight_decay=True), model)
    model = make_model()
    optimizer = cls(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, td.decoupled(0.3), rules=()), model=model)
    assert {row.route for row in handle.lowering.rows} == {"native"}
    assert same(run(optimizer, model), expected)
    handle.remove()
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is False


def test_names_come_from_the_groups_or_from_the_model_or_not_at_all():
    """Without either, a row of the plan can't be matched with a tensor, and nothing is guessed by order."""
    model = make_model()
    plan = td.plan(model, td.decoupled(0.1))
    td.attach(optim.SGD(plan.param_groups(model), lr=0.1), plan)
    td.attach(optim.SGD(model.named_parameters(), lr=0.1), plan)
    td.attach(optim.SGD(model.parameters(), lr=0.1), plan, model=model)
    with pytest.raises(td.ApplyError, match=r"no param_names[\s\S]*model="):
        td.attach(optim.SGD(model.parameters(), lr=0.1), plan)


def test_parameters_of_another_model_are_refused():
    """A model that was re-created leaves an optimizer that moves nothing of it."""
    model = make_model()
    optimizer = optim.SGD(make_model().parameters(), lr=0.1)
    with pytest.raises(td.ApplyError, match=r"4 parameters are not in the model[\s\S]*moves nothing of this model"):
        td.attach(optimizer, td.plan(model, 0.1), model=model)


def test_a_parameter_that_the_plan_lacks_is_refused_by_name():
    """By names, the nearest row is offered."""
    model = make_model()
    optimizer = optim.SGD([("0.wieght", model[0].weight)], lr=0.1)
    with pytest.raises(td.ApplyError, match=r'no row for "0\.wieght"[\s\S]*"0\.weight"'):
        td.attach(optimizer, td.plan(model, 0.1))


def test_a_plan_for_nothing_that_the_optimizer_has_is_refused():
    """Frozen parameters alone are no reason to attach."""
    model = make_model()
    plan = td.plan(model, 0.1)
    other = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(td.ApplyError, match="none of the plan's parameters"):
        td.attach(optim.SGD([("other", other.weight)], lr=0.1), plan)


def test_a_parameter_that_stands_twice_is_refused():
    """torch only warns, and the weight would decay twice."""
    model = make_model()
    with pytest.warns(UserWarning, match="duplicate"):
        optimizer = optim.SGD([model[0].weight, model[0].weight], lr=0.1)
    with pytest.raises(td.ApplyError, match=r'"0\.weight" is there twice'):
        td.attach(optimizer, td.plan(model, 0.1), model=model)


def test_a_decay_or_a_number_is_planned_for_the_model():
    """The short way, with the standard rules."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.decoupled(0.1), model=model)
    assert handle.plan == td.plan(model, td.decoupled(0.1))
    handle.remove()
    with pytest.raises(td.ApplyError, match=r"not a plan[\s\S]*model="):
        td.attach(optimizer, 0.1)


def test_an_attach_that_fails_half_way_leaves_nothing_behind():
    """Hooks without the rest would decay a part, or break the next step."""

    class Fixed(optim.SGD):
        def __setattr__(self, name, value):
            if name == "step":
                raise AttributeError("the step of this one can't be replaced")
            super().__setattr__(name, value)

    model = make_model()
    optimizer = Fixed(model.parameters(), lr=0.1, weight_decay=0.3)
    before = dict(optimizer.param_groups[0])
    with pytest.raises(AttributeError, match="can't be replaced"):
        td.attach(optimizer, td.plan(model, td.l1(0.1)), model=model)
    assert optimizer.param_groups[0] == before
    assert not optimizer._optimizer_step_pre_hooks
    assert handle_of(optimizer) is None


def test_what_is_no_optimizer_is_refused():
    """A list of optimizers, or a wrapper that is none, say."""
    model = make_model()
    with pytest.raises(td.ApplyError, match=r"a list where a torch optimizer belongs"):
        td.attach([optim.SGD(model.parameters(), lr=0.1)], 0.1, model=model)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_a_copied_optimizer_carries_the_mark_but_not_the_hooks(copied):
    """Copies lose hooks; the mark is how audit can tell, the first step says so, and the copy can be attached to."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model)
    other = copied(optimizer)
    assert other.param_groups[0]["torchdecay"].startswith("attached: ")
    assert not other._optimizer_step_post_hooks
    assert handle_of(other) is None
    with pytest.warns(td.DetachedWarning, match="a copy of one that a plan was attached to"):
        other.step()


def test_the_learning_rate_scheduler_is_not_disturbed():
    """Schedulers wrap `step` on the object and count its calls: every learning rate is the one without decay."""

    def lrs(decay):
        model = make_model()
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 5)
        if decay is not None:
            td.attach(optimizer, td.plan(model, decay), model=model)
        found = []
        for _ in range(4):
            zero_gradients(model)
            optimizer.step()
            found.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
        return [*found, *scheduler.get_last_lr()]

    with no_warning():
        assert lrs(td.l1(0.1)) == lrs(None) != [0.1] * 5


def test_an_optimizer_without_learning_rate_says_so():
    """Some third-party optimizers find their own step size and keep lr None."""

    class NoLr(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": None})

        def step(self, closure=None):
            return None

    model = make_model()
    with pytest.raises(td.ApplyError, match=r"no learning rate[\s\S]*per_step"):
        td.attach(NoLr(model.parameters()), td.plan(model, td.decoupled(0.1)), model=model)
    optimizer = NoLr(model.parameters())
    td.attach(optimizer, td.plan(model, td.per_step(0.1), rules=()), model=model)
    before = weights(model)
    zero_gradients(model)
    optimizer.step()
    assert same(weights(model), [w * 0.9 for w in before])


def test_repr_says_how_the_rows_are_carried_out():
    """At a glance, in a notebook."""
    model = make_model()
    plan = td.plan(model, td.decoupled(0.1))
    handle = td.attach(optim.AdamW(plan.param_groups(model), lr=0.1), plan)
    assert repr(handle) == "<Handle on AdamW: 2 by native, 2 by none>"


@pytest.mark.parametrize(
    ("decay", "refused"),
    [
        (td.forms.stable(0.09), False),
        (td.forms.stable(0.1), True),
        (td.forms.by_spectrum(0.33, high=3.0, min_values=2), False),
        (td.forms.by_spectrum(0.34, high=3.0, min_values=2), True),
        (td.forms.by_spectrum(1.0, low=0.1, high=0.5), True),
        (td.forms.norm_control(0.9, ratio=0.5), False),
        (td.forms.norm_control(1.0, ratio=0.5), True),
        (td.forms.spectral(0.9), False),
        (td.forms.spectral(1.0), True),
        (td.forms.ada_decay(0.4), False),
        (td.forms.ada_decay(0.5), True),
        (td.forms.huber(5.0), False),
        (td.Decay(coefficient=1.1, site=td.Site.BEFORE, regularizer=Huber()), True),
        (td.Decay(coefficient=0.6, site=td.Site.BEFORE, regularizer=SquaredNorm()), True),
    ],
    ids=repr,
)
def test_what_may_remove_a_whole_weight_in_a_step_is_refused_whatever_its_form(decay, refused):
    """By the largest multiplier that its controller may set, and the curvature of what pulls, at learning rate 1."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    before = weights(model)
    plan = td.plan(model, decay, rules=())
    if refused:
        with pytest.raises(td.ApplyError, match=r"would remove \S+ of each weight per step"):
            td.attach(optimizer, plan, model=model)
        return
    td.attach(optimizer, plan, model=model)
    zero_gradients(model)
    optimizer.step()
    assert all((new.norm() <= old.norm() * (1 + 1e-9)) for new, old in zip(weights(model), before, strict=True))
