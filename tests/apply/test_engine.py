"""One step of a lowered plan: what counts, what is shared, and the order of things."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.errors import ApplyError, OwnershipWarning

WD, LR = 0.3, 0.1


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False)).double()


def attached(decay, cls=optim.SGD, *, groups=False, **options):
    model = make_model()
    params = [{"params": [p]} for p in model.parameters()] if groups else model.parameters()
    optimizer = cls(params, lr=LR)
    return model, optimizer, td.attach(optimizer, td.plan(model, decay, rules=()), model=model, **options)


def zero_gradients(*params):
    for param in params:
        param.grad = torch.zeros_like(param)


def steps(optimizer):
    return [group["steps"] for group in optimizer.state_dict()["torchdecay"]["groups"]]


def test_each_group_counts_the_steps_that_it_really_took():
    """A group without gradients, or at learning rate 0, rests, and its schedule with it."""
    model, optimizer, _ = attached(td.decoupled(WD), groups=True)
    zero_gradients(model[0].weight)
    optimizer.step()
    zero_gradients(*model.parameters())
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    optimizer.zero_grad()
    optimizer.step()
    assert steps(optimizer) == [2, 2]


def test_accumulated_micro_batches_do_not_count():
    """Only optimizer.step does."""
    model, optimizer, _ = attached(td.decoupled(WD, schedule=td.schedules.linear(0.0, 1.0, 4)))
    for _ in range(3):
        for _ in range(5):
            model(torch.ones(1, 4).double()).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert steps(optimizer) == [3]


def test_a_schedule_is_evaluated_once_per_step_at_the_steps_taken():
    """λ_t for t = 0, 1, 2, ...: the first step uses t = 0."""
    seen = []

    def schedule(step):
        seen.append(step)
        return 1.0

    model, optimizer, _ = attached(td.decoupled(WD, schedule=schedule))
    for _ in range(3):
        zero_gradients(*model.parameters())
        optimizer.step()
    assert seen[0] == 0  # attach asks too, to refuse a bad schedule at once
    assert seen[1:] == [0, 1, 2]


def test_decay_before_the_step_and_not_after():
    """Decoupled: θ ← (1 − lr·λ)θ − u, not (1 − lr·λ)(θ − u)."""
    model, optimizer, _ = attached(td.decoupled(WD))
    weight = model[0].weight
    before = weight.detach().clone()
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert torch.equal(weight, before * (1 - LR * WD) - LR)


def test_a_proximal_pull_comes_after_the_step():
    """L1: the threshold is taken of θ − u."""
    model, optimizer, _ = attached(td.l1(WD))
    weight = model[0].weight
    before = weight.detach().clone()
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    z = before - LR
    assert torch.equal(weight, z.sign() * (z.abs() - LR * WD).clamp(min=0))


def test_a_gradient_that_a_hook_of_the_users_replaces_stays_replaced():
    """Whoever has the last word on `.grad` keeps it: a post-step hook that sets it to None, say."""
    model, optimizer, handle = attached(td.coupled(WD), via="hook")
    handle.remove()
    optimizer.register_step_post_hook(lambda optimizer, args, kwargs: optimizer.zero_grad())
    td.attach(optimizer, td.plan(model, td.coupled(WD), rules=()), model=model, via="hook")
    zero_gradients(*model.parameters())
    optimizer.step()
    assert all(param.grad is None for param in model.parameters())


def test_rows_of_different_decays_share_a_group():
    """Each row gets its own, and the group is not split."""
    model = make_model()
    plan = td.plan(model, None, rules=[("0.*", td.decoupled(WD)), ("1.*", td.per_step(0.5))])
    optimizer = optim.AdamW(model.parameters(), lr=LR, weight_decay=0.9)
    td.attach(optimizer, plan, model=model)
    before = [param.detach().clone() for param in model.parameters()]
    zero_gradients(*model.parameters())
    optimizer.step()
    assert torch.equal(model[0].weight, before[0] * (1 - LR * WD))
    assert torch.equal(model[1].weight, before[1] * 0.5)
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("decay", [td.coupled(WD), td.decoupled(WD), td.l1(WD), td.penalized(WD)], ids=repr)
def test_dtypes_are_mixed_in_one_group(decay):
    """Tensors of other dtypes go through other kernels, and all of them decay."""
    model = nn.ParameterDict(
        {name: nn.Parameter(torch.ones(3, dtype=getattr(torch, name))) for name in ("float32", "float64")}
    )
    optimizer = optim.SGD(model.parameters(), lr=LR)
    handle = td.attach(optimizer, td.plan(model, decay, rules=()), model=model, via="hook")
    zero_gradients(*model.values())
    if decay == td.penalized(WD):
        handle.penalty(model).backward()
    optimizer.step()
    for param in model.values():
        assert torch.allclose(param, torch.full_like(param, 1 - LR * WD))


def test_sparse_gradients_refuse_coupled_decay_before_anything_changes():
    """It would make them dense; decoupled decay shrinks every row."""
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 2, sparse=True), "dense": nn.Linear(2, 1, bias=False)})
    optimizer = optim.SGD(model.parameters(), lr=LR)

    def backward():
        optimizer.zero_grad()
        model["dense"](model["embedding"](torch.tensor([1, 3]))).sum().backward()

    with td.attach(optimizer, td.plan(model, td.coupled(WD), rules=()), model=model, via="hook"):
        backward()
        before = [param.detach().clone() for param in model.parameters()]
        grads = [param.grad for param in model.parameters()]
        with pytest.raises(td.ApplyError, match=r'sparse gradient of "embedding\.weight"[\s\S]*td\.decoupled'):
            optimizer.step()
        assert all(torch.equal(param, old) for param, old in zip(model.parameters(), before, strict=True))
        assert all(param.grad is grad for param, grad in zip(model.parameters(), grads, strict=True))
    with td.attach(optimizer, td.plan(model, td.decoupled(WD), rules=()), model=model):
        backward()
        optimizer.step()
    untouched = model["embedding"].weight[[0, 2, 4]]
    assert torch.equal(untouched, before[0][[0, 2, 4]] * (1 - LR * WD))


@pytest.mark.parametrize(("decay", "writes"), [(td.decoupled(WD), 0), (td.independent(WD), 1)], ids=str)
def test_a_static_native_plan_writes_once_and_then_leaves_the_group_alone(decay, writes):
    """No cost over the optimizer's own weight_decay: only a peak has to wait for the first step."""

    class Watched(dict):
        writes = 0

        def __setitem__(self, key, value):
            self.writes += key == "weight_decay"
            super().__setitem__(key, value)

    model = make_model()
    plan = td.plan(model, decay, rules=())
    optimizer = optim.AdamW(plan.param_groups(model), lr=LR)
    group = optimizer.param_groups[0] = Watched(optimizer.param_groups[0])
    td.attach(optimizer, plan)
    group.writes = 0
    for _ in range(5):
        zero_gradients(*model.parameters())
        optimizer.step()
    assert group.writes == writes


def test_the_penalty_of_loss_rows_is_what_the_equation_says():
    """Σ λ_t·½‖M⊙(θ − ref)‖², its schedule following the steps taken; 0 when there is no such row."""
    decay = td.penalized(WD, schedule=td.schedules.piecewise({1: 3.0})).replace(
        reference=td.toward({"0.weight": torch.ones(3, 4).double()}, WD).reference, mask=td.spare_rows(0)
    )
    model, optimizer, handle = attached(decay)
    for multiplier in (1.0, 3.0):
        first = (model[0].weight[1:] - 1).square().sum() + model[1].weight[1:].square().sum()
        assert torch.allclose(handle.penalty(model), WD * multiplier / 2 * first, rtol=1e-14)
        assert torch.equal(handle.penalty(), handle.penalty(model))
        zero_gradients(*model.parameters())
        optimizer.step()
    _, _, handle = attached(td.decoupled(WD))
    assert handle.penalty() == 0


def test_two_optimizers_carry_out_one_plan_together():
    """A model split between optimizers: each takes its own parameters' rows."""
    model = make_model()
    plan = td.plan(model, td.decoupled(WD), rules=())
    one, other = optim.SGD([model[0].weight], lr=LR), optim.AdamW([model[1].weight], lr=2 * LR, weight_decay=0.9)
    for optimizer in (one, other):
        td.attach(optimizer, plan, model=model)
    before = [param.detach().clone() for param in model.parameters()]
    zero_gradients(*model.parameters())
    one.step()
    other.step()
    assert torch.equal(model[0].weight, before[0] * (1 - LR * WD))
    assert torch.equal(model[1].weight, before[1] * (1 - 2 * LR * WD))


def test_the_model_may_change_its_dtype_after_attach():
    """model.double() changes tensors in place; what attach keeps must follow."""
    model = make_model().float()
    optimizer = optim.SGD(model.parameters(), lr=LR)
    td.attach(optimizer, td.plan(model, td.toward("initial", WD), rules=()), model=model)
    model.double()
    before = [param.detach().clone() for param in model.parameters()]
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    optimizer.step()
    assert all(torch.allclose(p, old - LR) for p, old in zip(model.parameters(), before, strict=True))


def _sets(key, value):
    return lambda optimizer: optimizer.param_groups[0].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "heard"),
    [
        (_sets("weight_decay", 0.5), OwnershipWarning),
        (_sets("lr", 20.0), ApplyError),
        (lambda optimizer: optimizer.param_groups[0]["params"][0].requires_grad_(False), None),
        (lambda optimizer: optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]}), ApplyError),
    ],
    ids=["overwritten", "too fast", "frozen with a gradient", "unknown weight"],
)
def test_what_changes_after_steps_at_which_nothing_was_to_be_done_is_seen(change, heard):
    """A native, constant plan is only looked at from its second step on, and must not overlook what others do."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, td.decoupled(0.1), rules=td.policies.torch), model=model)
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    for _ in range(3):
        optimizer.step()
    assert handle.steps(0) == 3
    change(optimizer)
    if heard is ApplyError:
        with pytest.raises(ApplyError):
            optimizer.step()
    elif heard is not None:
        with pytest.warns(heard):
            optimizer.step()
        assert optimizer.param_groups[0]["weight_decay"] == 0.1
    else:
        optimizer.step()
        assert handle.lowering["weight"].route == "hook"
