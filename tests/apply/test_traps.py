"""Traps of optimizer hooks. Each check passes with `td.attach` and fails with the hook that people first write."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.plans.presets import PRESETS

WD = 0.3
MEASURED = [td.forms.constrained(kappa=0.1, measure=measure) for measure in ("squared", "l1", "huber", "std")]


def ours(optimizer, model, decay):
    return td.attach(optimizer, td.plan(model, decay, rules=td.policies.torch), model=model, via="hook")


def naive(optimizer, model, decay):
    """Decay in a pre-step hook, as it is first written."""

    def hook(optimizer, args, kwargs):
        for group in optimizer.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                with torch.no_grad():
                    if decay.site is td.Site.GRADIENT:
                        param.grad.add_(param, alpha=decay.coefficient)
                    elif decay.scale is td.Scale.LR:
                        param.mul_(1 - group["lr"] * decay.coefficient)
                    else:
                        param.mul_(1 - decay.coefficient)

    return optimizer.register_step_pre_hook(hook)


def model_and_data():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    return model, torch.randn(8, 4, dtype=torch.float64)


def weights(model):
    return [param.detach().clone() for param in model.parameters()]


def same(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def backward(model, x):
    loss = model(x).square().mean()
    loss.backward()
    return loss


def train_with_closure(model, optimizer, x, *, keyword):
    def closure():
        optimizer.zero_grad()
        return backward(model, x)

    for _ in range(3):
        optimizer.step(closure=closure) if keyword else optimizer.step(closure)
    return weights(model)


def a_positional_closure_is_evaluated_before_the_decay(carry_out):
    model, x = model_and_data()
    expected = train_with_closure(model, optim.SGD(model.parameters(), lr=0.1, weight_decay=WD), x, keyword=False)
    model, x = model_and_data()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    carry_out(optimizer, model, td.coupled(WD))
    assert same(train_with_closure(model, optimizer, x, keyword=False), expected)


def a_keyword_closure_is_evaluated_before_the_decay(carry_out):
    model, x = model_and_data()
    expected = train_with_closure(model, optim.AdamW(model.parameters(), lr=0.1, weight_decay=WD), x, keyword=True)
    model, x = model_and_data()
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    carry_out(optimizer, model, td.decoupled(WD))
    assert same(train_with_closure(model, optimizer, x, keyword=True), expected)


def the_gradient_is_the_users_again_after_the_step(carry_out):
    model, x = model_and_data()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    carry_out(optimizer, model, td.coupled(WD))
    backward(model, x)
    objects = [param.grad for param in model.parameters()]
    bits = [grad.clone() for grad in objects]
    optimizer.step()
    assert all(param.grad is grad for param, grad in zip(model.parameters(), objects, strict=True))
    assert same(objects, bits)


def gradients_that_accumulate_over_steps_do_not_gather_decay(carry_out):
    def run(model, x, optimizer):
        for _ in range(3):
            backward(model, x)  # no zero_grad: each step sees the sum so far
            optimizer.step()
        return weights(model)

    model, x = model_and_data()
    expected = run(model, x, optim.SGD(model.parameters(), lr=0.1, weight_decay=WD))
    model, x = model_and_data()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    carry_out(optimizer, model, td.coupled(WD))
    assert same(run(model, x, optimizer), expected)


def scaled(cls, options, carry_out, decay, *, spoil=False, steps=3):
    """Train in float32 under a GradScaler; `spoil` makes the last step's gradient infinite."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    x = torch.randn(8, 4)
    optimizer = cls(model.parameters(), lr=0.1, fused=True, **options)
    carried = carry_out(optimizer, model, decay) if decay is not None else None
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    before = weights(model)
    for step in range(steps):
        optimizer.zero_grad()
        scaler.scale(model(x).square().mean()).backward()
        if spoil and step == steps - 1:
            model[0].weight.grad[0, 0] = torch.inf
        before = weights(model)
        scaler.step(optimizer)
        scaler.update()
    return before, weights(model), carried


def a_step_that_a_fused_optimizer_skips_does_not_decay(carry_out):
    for cls in (optim.AdamW, optim.SGD):
        off = {"weight_decay": 0.0}
        before, after, _ = scaled(cls, off, carry_out, td.decoupled(WD), spoil=True)
        assert same(before, after)


def scaled_gradients_get_the_scaled_coupled_term(carry_out):
    # Powers of two scale without rounding, so a kernel that unscales gives native's bits.
    for cls in (optim.SGD, optim.Adam):
        _, expected, _ = scaled(cls, {"weight_decay": WD}, None, None)
        _, found, _ = scaled(cls, {}, carry_out, td.coupled(WD))
        assert same(expected, found)


class Doubled(optim.SGD):
    """A step that calls its parent's: the hooks of both fire."""

    def step(self, closure=None):
        return super().step(closure)


def a_step_that_calls_its_parents_step_decays_once(carry_out):
    model, _ = model_and_data()
    optimizer = Doubled(model.parameters(), lr=0.1)
    carry_out(optimizer, model, td.decoupled(WD))
    before = weights(model)
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    optimizer.step()
    assert same(weights(model), [w * (1 - 0.1 * WD) for w in before])


def maximize_keeps_the_coupled_term_shrinking(carry_out):
    def run(model, x, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            backward(model, x)
            optimizer.step()
        return weights(model)

    model, x = model_and_data()
    expected = run(model, x, optim.Adam(model.parameters(), lr=0.1, weight_decay=WD, maximize=True))
    model, x = model_and_data()
    optimizer = optim.Adam(model.parameters(), lr=0.1, maximize=True)
    carry_out(optimizer, model, td.coupled(WD))
    assert same(run(model, x, optimizer), expected)


def a_parameter_that_is_frozen_later_stays(carry_out):
    model, x = model_and_data()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    carry_out(optimizer, model, td.decoupled(WD))
    backward(model, x)
    model[0].weight.requires_grad_(False)
    model[0].weight.grad.zero_()  # the stale gradient that freezing leaves behind
    before = model[0].weight.clone()
    optimizer.step()
    assert torch.equal(model[0].weight, before)


def a_step_at_learning_rate_0_moves_nothing(carry_out):
    model, x = model_and_data()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    carry_out(optimizer, model, td.per_step(WD))
    before = weights(model)
    backward(model, x)
    optimizer.step()
    assert same(weights(model), before)


TRAPS = [
    a_positional_closure_is_evaluated_before_the_decay,
    a_keyword_closure_is_evaluated_before_the_decay,
    the_gradient_is_the_users_again_after_the_step,
    gradients_that_accumulate_over_steps_do_not_gather_decay,
    a_step_that_a_fused_optimizer_skips_does_not_decay,
    scaled_gradients_get_the_scaled_coupled_term,
    a_step_that_calls_its_parents_step_decays_once,
    maximize_keeps_the_coupled_term_shrinking,
    a_parameter_that_is_frozen_later_stays,
    a_step_at_learning_rate_0_moves_nothing,
]


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__)
def test_attach_avoids_the_trap(trap):
    trap(ours)


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__)
def test_the_naive_hook_falls_into_the_trap(trap):
    """The seeded fault: were a check blind, the naive hook would pass it."""
    with pytest.raises(AssertionError):
        trap(naive)


def test_a_skipped_step_does_not_count():
    """Schedules follow steps really taken."""
    for cls in (optim.AdamW, optim.SGD):
        decay = td.decoupled(WD, schedule=td.schedules.linear(0.0, 1.0, 10))
        _, _, handle = scaled(cls, {"weight_decay": 0.0}, ours, decay, spoil=True, steps=3)
        assert handle.optimizer.state_dict()["torchdecay"]["groups"][0]["steps"] == 2


def test_unscaled_gradients_are_not_scaled_again():
    """After scaler.unscale_, fused optimizers get no grad_scale, and the coupled term is added as it is."""

    def run(decay, **options):
        torch.manual_seed(0)
        model = nn.Linear(4, 2)
        x = torch.randn(8, 4)
        optimizer = optim.SGD(model.parameters(), lr=0.1, fused=True, **options)
        if decay:
            ours(optimizer, model, decay)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for _ in range(2):
            optimizer.zero_grad()
            scaler.scale(model(x).square().mean()).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            scaler.step(optimizer)
            scaler.update()
        return weights(model)

    assert same(run(None, weight_decay=WD), run(td.coupled(WD)))


def test_fused_kernels_get_gradients_that_lie_like_their_weights():
    """A fused CPU kernel misreads a transposed gradient; what attach lends it is laid out right."""
    torch.manual_seed(0)
    start, gradient = torch.randn(3, 5), torch.randn(5, 3).t()

    def run(grad, **options):
        weight = nn.Parameter(start.clone())
        model = nn.ParameterDict({"weight": weight})
        optimizer = optim.Adam([weight], lr=0.1, **options)
        ours(optimizer, model, td.coupled(WD))
        weight.grad = grad
        optimizer.step()
        assert weight.grad is grad
        return weight.detach()

    right = run(gradient.contiguous(), fused=True)
    assert torch.equal(run(gradient, fused=True), right)
    # The seeded fault: torch alone, given the transposed gradient.
    weight = nn.Parameter(start.clone())
    weight.grad = gradient + WD * start
    weight.grad = weight.grad.t().contiguous().t()
    assert not weight.grad.is_contiguous()
    optim.Adam([weight], lr=0.1, fused=True).step()
    assert not torch.allclose(weight.detach(), right, atol=1e-3)


def test_a_step_that_raises_gives_the_gradients_back_and_the_next_one_is_right():
    """An optimizer that fails in the middle leaves no decay in `.grad`, and the guard against re-entry opens."""

    class Failing(optim.SGD):
        fail = False

        def step(self, closure=None):
            if self.fail:
                raise RuntimeError("out of memory")
            return super().step(closure)

    model, x = model_and_data()
    twin = copy.deepcopy(model)
    optimizer = Failing(model.parameters(), lr=0.1)
    ours(optimizer, model, td.coupled(WD))
    backward(model, x)
    mine = [param.grad for param in model.parameters()]
    optimizer.fail = True
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step()
    optimizer.fail = False
    optimizer.step()
    assert all(param.grad is grad for param, grad in zip(model.parameters(), mine, strict=True))
    other = optim.SGD(twin.parameters(), lr=0.1, weight_decay=WD)
    backward(twin, x)
    other.step()
    assert same(weights(model), weights(twin))


@pytest.mark.parametrize("set_to_none", [True, False])
def test_after_a_step_that_raised_new_gradients_are_not_replaced_by_old_ones(set_to_none):
    """zero_grad(set_to_none=False) accumulates into the gradient that was lent: it is the user's from then on."""

    class FailsOnce(optim.SGD):
        failed = False

        def step(self, closure=None):
            if not self.failed:
                self.failed = True
                raise RuntimeError
            return super().step(closure)

    model, x = model_and_data()
    twin = copy.deepcopy(model)
    optimizer = FailsOnce(model.parameters(), lr=0.1)
    ours(optimizer, model, td.coupled(WD))
    backward(model, x)
    with pytest.raises(RuntimeError):
        optimizer.step()
    optimizer.zero_grad(set_to_none=set_to_none)
    backward(model, x * 2)
    optimizer.step()
    other = optim.SGD(twin.parameters(), lr=0.1, weight_decay=WD)
    backward(twin, x * 2)
    other.step()
    assert same(weights(model), weights(twin))


def test_a_closure_that_raises_changes_nothing_and_the_next_step_is_right():
    """The decay waits for the closure, so a closure that fails leaves weights and counters alone."""
    model, _ = model_and_data()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = ours(optimizer, model, td.decoupled(WD))
    before = weights(model)

    def failing():
        raise ValueError("bad batch")

    with pytest.raises(ValueError, match="bad batch"):
        optimizer.step(failing)
    assert same(weights(model), before)
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    optimizer.step()
    assert same(weights(model), [w * (1 - 0.1 * WD) for w in before])
    assert optimizer.state_dict()["torchdecay"]["groups"][0]["steps"] == 1
    assert handle.plan["0.weight"].decay == td.decoupled(WD)


class Twice(optim.SGD):
    """Evaluates the closure, climbs, and evaluates it again, as sharpness-aware optimizers do."""

    @torch.no_grad()
    def step(self, closure=None):
        with torch.enable_grad():
            closure()
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                param.sub_(param.grad, alpha=group["lr"])
        return loss


@pytest.mark.parametrize("decay", [td.coupled(WD), td.decoupled(WD)], ids=str)
def test_a_closure_that_is_evaluated_twice_has_its_pulls(decay):
    """Each evaluation's gradients get theirs, and weights are pulled once a step, whatever the optimizer is."""
    model, x = model_and_data()
    twin = copy.deepcopy(model)
    optimizer, other = Twice(model.parameters(), lr=0.1), Twice(twin.parameters(), lr=0.1)
    ours(optimizer, model, decay)
    evaluations = []

    def closure():
        optimizer.zero_grad()
        return backward(model, x)

    @torch.no_grad()
    def by_hand():
        other.zero_grad()
        with torch.enable_grad():
            backward(twin, x)
        evaluations.append(1)
        for param in twin.parameters():
            if decay.site is td.Site.GRADIENT:
                param.grad.add_(param, alpha=WD)
            elif len(evaluations) % 2:
                param.mul_(1 - 0.1 * WD)

    for _ in range(3):
        optimizer.step(closure)
        other.step(by_hand)
    assert all(map(torch.allclose, weights(model), weights(twin)))
    assert evaluations == [1] * 6


def test_a_second_evaluation_of_the_closure_is_fine_for_penalties():
    """A penalty is part of the function, so every evaluation sees it."""
    model, x = model_and_data()
    twin = copy.deepcopy(model)

    def run(model, penalty, optimizer):
        def closure():
            optimizer.zero_grad()
            loss = model(x).square().mean() + penalty()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        return weights(model)

    optimizer = Twice(model.parameters(), lr=0.1)
    handle = ours(optimizer, model, td.penalized(WD))
    found = run(model, handle.penalty, optimizer)
    expected = run(twin, lambda: td.penalty(twin, l2=WD / 2), Twice(twin.parameters(), lr=0.1))
    assert same(found, expected)


def test_lbfgs_takes_penalties_only():
    """LBFGS evaluates its closure many times a step: hooks are refused, and the way out decays as by hand."""
    model, x = model_and_data()
    twin, _ = model_and_data()
    optimizer = optim.LBFGS(model.parameters(), lr=0.5)
    with pytest.raises(td.ApplyError, match=r"LBFGS[\s\S]*td\.penalized"):
        ours(optimizer, model, td.coupled(WD))
    assert not optimizer._optimizer_step_pre_hooks
    handle = ours(optimizer, model, td.penalized(WD))

    def run(model, penalty, optimizer):
        def closure():
            optimizer.zero_grad()
            loss = model(x).square().mean() + penalty()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        return weights(model)

    by_hand = run(twin, lambda: td.penalty(twin, l2=WD / 2), optim.LBFGS(twin.parameters(), lr=0.5))
    assert same(run(model, handle.penalty, optimizer), by_hand)


def test_parameters_without_a_gradient_are_left_alone():
    """What the optimizer does not step, the decay does not touch."""
    model, x = model_and_data()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    ours(optimizer, model, td.decoupled(WD))
    model[0](x).sum().backward()
    before = model[2].weight.clone()
    optimizer.step()
    assert torch.equal(model[2].weight, before)


def test_a_stale_gradient_decays_as_the_optimizer_itself_would():
    """A gradient that was not zeroed is stepped by torch, decay included; so it is by hook."""

    def run(model, x, optimizer):
        backward(model, x)
        optimizer.step()
        optimizer.step()
        return weights(model)

    model, x = model_and_data()
    expected = run(model, x, optim.SGD(model.parameters(), lr=0.1, weight_decay=WD))
    model, x = model_and_data()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    ours(optimizer, model, td.coupled(WD))
    assert same(run(model, x, optimizer), expected)


@pytest.mark.parametrize("decay", [td.coupled(WD), td.decoupled(WD), td.l1(WD)], ids=repr)
def test_empty_tensors_and_groups_are_carried_along(decay):
    """A parameter of no elements is legal in torch; an empty group too."""
    model = nn.ParameterDict({"empty": nn.Parameter(torch.empty(0, 3)), "full": nn.Parameter(torch.ones(2, 3))})
    optimizer = optim.Adam([{"params": list(model.values())}, {"params": []}], lr=0.1)
    ours(optimizer, model, decay)
    for param in model.values():
        param.grad = torch.zeros_like(param)
    optimizer.step()
    assert model["full"].max() < 1


@pytest.mark.parametrize("cls", [optim.SGD, optim.Adam, optim.AdamW], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("implementation", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
def test_a_learning_rate_that_is_a_tensor_gives_the_optimizers_own_bits(cls, implementation):
    """SGD, Adam and AdamW take a 0-d tensor as learning rate."""
    if cls is not optim.SGD and implementation == {"foreach": True}:
        pytest.skip("torch refuses a tensor lr with foreach unless capturable")

    def run(optimizer, model, x):
        for _ in range(3):
            optimizer.zero_grad()
            backward(model, x)
            optimizer.step()
        return weights(model)

    model, x = model_and_data()
    expected = run(cls(model.parameters(), lr=torch.tensor(0.1), weight_decay=WD, **implementation), model, x)
    model, x = model_and_data()
    optimizer = cls(model.parameters(), lr=torch.tensor(0.1), weight_decay=0.0, **implementation)
    ours(optimizer, model, td.native(WD))
    assert same(run(optimizer, model, x), expected)


@pytest.mark.parametrize(
    "decay",
    [td.independent(WD), td.per_step(WD), td.toward("initial", WD), td.l1(WD), td.elastic_net(l1=WD, l2=WD)],
    ids=repr,
)
def test_every_form_runs_with_a_learning_rate_that_is_a_tensor(decay):
    """A 0-d learning rate gives what a float gives."""

    def run(lr):
        model, x = model_and_data()
        optimizer = optim.SGD(model.parameters(), lr=lr)
        ours(optimizer, model, decay)
        for _ in range(3):
            optimizer.zero_grad()
            backward(model, x)
            optimizer.step()
        return weights(model)

    # float64, because a float32 0.1 is another number than Python's.
    for one, other in zip(run(0.1), run(torch.tensor(0.1, dtype=torch.float64)), strict=True):
        # A tensor amount goes through another kernel, which may round once more.
        assert torch.allclose(one, other, rtol=1e-15, atol=1e-17)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW, optim.Adam], ids=lambda cls: cls.__name__)
def test_complex_parameters_decay_as_natively(cls, dtype):
    """Torch treats a complex weight as a pair of reals; the hook gives the same bits."""

    def run(optimizer, param):
        for step in range(3):
            param.grad = torch.full_like(param, complex(step, -1))
            optimizer.step()
        return param.detach()

    start = torch.randn(3, 4, dtype=dtype)
    param = nn.Parameter(start.clone())
    expected = run(cls([param], lr=0.1, weight_decay=WD), param)
    param = nn.Parameter(start.clone())
    optimizer = cls([param], lr=0.1, weight_decay=0.0)
    ours(optimizer, nn.ParameterDict({"weight": param}), td.native(WD))
    assert torch.equal(run(optimizer, param), expected)


@pytest.mark.parametrize(
    "decay", [td.decoupled(WD), td.coupled(WD), td.toward("initial", WD), td.l1(WD), td.penalized(WD)], ids=repr
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64], ids=str)
def test_every_site_runs_in_low_precision_and_in_complex(decay, dtype):
    """Shrinks that are large enough to survive rounding shrink; nothing becomes NaN."""
    param = nn.Parameter(torch.full((3, 4), 2.0).to(dtype))
    model = nn.ParameterDict({"weight": param})
    plan = td.plan(model, decay, rules=td.policies.torch)
    # At the default eps, AdamW itself divides 0 by 0 in float16.
    for cls, options in ((optim.SGD, {}), (optim.AdamW, {"eps": 1e-3})):
        optimizer = cls([param], lr=0.1, weight_decay=0.0, **options)
        with td.attach(optimizer, plan, model=model, via="hook") as handle:
            for _ in range(3):
                optimizer.zero_grad()
                (param.abs().sum() * 0 + handle.penalty(model)).backward()
                optimizer.step()
    assert param.isfinite().all()
    assert (param.abs().max() < 2.0) is not (decay.reference is not None)


def test_a_schedule_inside_a_captured_graph_is_refused(monkeypatch):
    """A replayed graph takes no new numbers from Python; without capture, or without a schedule, nothing is refused."""
    param = nn.Parameter(torch.ones(3))
    model = nn.ParameterDict({"weight": param})
    optimizer = optim.AdamW([param], lr=0.1, weight_decay=0.0)
    falling = td.decoupled(WD, schedule=td.schedules.linear(1.0, 0.0, 10))
    with td.attach(optimizer, td.plan(model, falling, rules=td.policies.torch), model=model) as handle:
        # Torch takes the key only beside an accelerator; what is tested is that the hook heeds it.
        optimizer.param_groups[0]["capturable"] = True
        param.grad = torch.ones(3)
        hook = next(iter(optimizer._optimizer_step_pre_hooks.values()))
        hook(optimizer, (), {})
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with pytest.raises(td.ApplyError, match="inside a CUDA graph"):
            hook(optimizer, (), {})
        optimizer.param_groups[0]["capturable"] = False
        handle.update(td.plan(model, td.decoupled(WD), rules=td.policies.torch))
        optimizer.param_groups[0]["capturable"] = True
        next(iter(optimizer._optimizer_step_pre_hooks.values()))(optimizer, (), {})


@pytest.mark.parametrize("cls", [optim.SGD, optim.Adam], ids=lambda cls: cls.__name__)
def test_what_is_maximized_with_its_penalty_shrinks_weights(cls):
    """As it does where a loss is minimized, to the bit: the penalty has the sign of the group that it is for."""
    ends = []
    for maximize in (False, True):
        model, _ = model_and_data()
        optimizer = cls(model.parameters(), lr=0.01, maximize=maximize)
        handle = td.attach(optimizer, td.plan(model, td.penalized(WD)), model=model)
        for _ in range(5):
            optimizer.zero_grad()
            loss = sum(param.square().sum() for param in model.parameters())
            ((-loss if maximize else loss) + handle.penalty(model)).backward()
            optimizer.step()
        ends.append([param.detach().clone() for param in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("decay", [td.coupled(WD), td.decoupled(WD), td.cautious(WD)], ids=str)
@pytest.mark.parametrize("cls", [optim.SGD, optim.Adam], ids=lambda cls: cls.__name__)
def test_a_step_in_inference_mode_is_a_step(cls, decay):
    """Tensors that are made there count no versions."""
    ends = []
    for inference in (False, True):
        model, _ = model_and_data()
        optimizer = cls(model.parameters(), lr=0.01)
        ours(optimizer, model, decay)
        for param in model.parameters():
            param.grad = torch.ones_like(param)
        with torch.inference_mode(inference):
            optimizer.step()
        ends.append([param.detach().clone() for param in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


EMPTY = [
    td.decoupled(0.1), td.coupled(0.1), td.l1(0.1), td.cautious(0.1), td.toward("initial", 0.1), td.penalized(0.1),
    td.decoupled(0.1, rows="touched"), td.decoupled(0.1, rows="lazy"), td.forms.constrained(kappa=0.1),
    td.forms.constrained(kappa_initial=0.5), td.forms.norm_control(0.1), td.forms.spectral(0.5),
    td.forms.projected("initial", 0.1),
    td.forms.by_spectrum(0.5, min_values=2), td.forms.adaptive(0.1), td.forms.ada_decay(0.1), td.forms.stable(0.1),
]  # fmt: skip


@pytest.mark.parametrize("decay", EMPTY, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_parameter_without_elements_is_no_obstacle(decay, dtype):
    """Shards and pruned layers have such; the others decay as if it were not there."""
    ends = []
    for shape in ((0, 3), (2, 3)):
        torch.manual_seed(0)
        model = nn.ParameterDict({"b": nn.Parameter(torch.randn(3, 3).to(dtype))})
        if shape[0] == 0:
            model["a"] = nn.Parameter(torch.zeros(shape, dtype=dtype))
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        handle = td.attach(optimizer, td.plan(model, decay, rules=()), model=model)
        for _ in range(2):
            for param in model.parameters():
                param.grad = torch.ones_like(param)
            handle.penalty(model)
            optimizer.step()
        handle.remove()
        ends.append(model["b"].detach().clone())
    assert torch.equal(*ends)


@pytest.mark.parametrize("cls", [optim.SGD, optim.Adagrad, optim.SparseAdam], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("decay", [td.cautious(0.1), td.cautious(0.1, zero_update="spare")], ids=str)
def test_cautious_decay_beside_sparse_gradients_is_that_beside_dense_ones(cls, decay):
    """There the update is measured, where no sign can be read of what has no number for each weight."""
    ends = []
    for sparse in (False, True) if cls is not optim.SparseAdam else (True, True):
        torch.manual_seed(0)
        table = nn.Embedding(6, 3, sparse=sparse).double()
        optimizer = cls(table.parameters(), lr=0.1)
        td.attach(optimizer, td.plan(table, decay, rules=()), model=table)
        for _ in range(3):
            optimizer.zero_grad()
            table(torch.tensor([1, 4])).square().sum().backward()
            optimizer.step()
        ends.append(table.weight.detach())
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("bound", [{"kappa": 60000.0}, {"kappa_initial": 0.5}, {"kappa": 1e5}], ids=str)
def test_a_bound_above_the_largest_number_of_half_precision_acts_as_in_float32(bound):
    """‖θ‖² of a few hundred thousand weights is more than 65504, and no weight is 0 for that."""
    norms = []
    for dtype in (torch.float32, torch.float16):
        torch.manual_seed(0)
        model = nn.ParameterDict({"w": nn.Parameter(torch.randn(300, 300).to(dtype))})
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        td.attach(optimizer, td.plan(model, td.forms.constrained(**bound), rules=()), model=model)
        for _ in range(2):
            model["w"].grad = torch.zeros_like(model["w"])
            optimizer.step()
        norms.append(model["w"].detach().float().norm().item())
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


@pytest.mark.parametrize("decay", [td.decoupled(0.01, rows="touched"), td.forms.spectral(0.01)], ids=repr)
def test_low_precision_rounds_alike_whatever_the_default_dtype(decay):
    """A chance that is drawn in bf16 has 256 values, and what is rarer than the least of them never comes."""
    ends = []
    try:
        for default in (torch.float32, torch.bfloat16):
            torch.set_default_dtype(torch.float32)
            torch.manual_seed(0)
            model = nn.ParameterDict({"w": nn.Parameter(torch.randn(40, 40).bfloat16())})
            optimizer = optim.SGD(model.parameters(), lr=0.0025)
            td.attach(optimizer, td.plan(model, decay, rules=()), model=model)
            torch.set_default_dtype(default)
            for _ in range(5):
                model["w"].grad = torch.full_like(model["w"], 1e-30)
                optimizer.step()
            ends.append(model["w"].detach())
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(*ends)


@pytest.mark.parametrize("cls", [optim.SGD, optim.RMSprop, optim.Adagrad, optim.Adamax, optim.AdamW])
@pytest.mark.parametrize("decay", [td.l1, td.coupled, td.decoupled], ids=lambda form: form.__name__)
def test_numbers_of_numpy_in_a_running_job_are_those_of_python(cls, decay):
    """A learning rate, by a scheduler's lambda; a momentum; what a schedule returns."""
    ends = []
    for number in (float, np.float32):
        param = nn.Parameter(torch.linspace(-1, 1, 6))
        optimizer = cls([param], lr=0.0625, **({"momentum": 0.5} if cls is optim.SGD else {}))
        ours(optimizer, nn.ParameterDict({"w": param}), decay(0.125, schedule=lambda step, n=number: n(0.5)))
        for key in {"lr", "momentum"} & set(optimizer.param_groups[0]):
            optimizer.param_groups[0][key] = number(optimizer.param_groups[0][key])
        for _ in range(2):
            param.grad = torch.ones_like(param)
            optimizer.step()
        ends.append(param.detach())
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("decay", [*(one.shown for one in PRESETS.values()), *MEASURED], ids=repr)
@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW])
def test_a_form_that_complex_weights_can_not_have_is_refused_at_attach(cls, decay):
    """And not by torch, in the first step."""
    model = nn.ParameterDict({"w": nn.Parameter(torch.full((3, 4), 1 + 2j))})
    optimizer = cls(model.parameters(), lr=0.01)
    try:
        handle = td.attach(optimizer, td.plan(model, decay, rules=()), model=model)
    except td.TorchdecayError:
        return
    for _ in range(2):
        model["w"].grad = torch.full_like(model["w"], 0.5)
        handle.penalty(model)
        optimizer.step()
    assert model["w"].isfinite().all()


def test_a_handle_that_is_removed_in_a_second_evaluation_lends_no_gradient():
    """Nobody would give it back."""
    model, x = model_and_data()
    optimizer = Twice(model.parameters(), lr=0.1)
    handle = ours(optimizer, model, td.coupled(WD))
    users = []

    def closure():
        optimizer.zero_grad()
        backward(model, x)
        users.append([param.grad for param in model.parameters()])
        if len(users) == 2:
            handle.remove()

    optimizer.step(closure)
    assert all(param.grad is mine for param, mine in zip(model.parameters(), users[1], strict=True))


@pytest.mark.parametrize("moment", ["before", "in the closure", "after"])
def test_a_handle_that_is_removed_within_a_step_lets_it_end(moment):
    """A user's own hook or closure may end a plan; what stood there before then decays, and no hook is left."""
    model, x = model_and_data()
    optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=0.7)
    if moment == "before":
        optimizer.register_step_pre_hook(lambda *_: handle.remove())
        optimizer.register_step_pre_hook(lambda *_: None)
    if moment == "after":
        optimizer.register_step_post_hook(lambda *_: handle.remove())
        optimizer.register_step_post_hook(lambda *_: None)
    theirs = len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)
    handle = ours(optimizer, model, td.l1(WD))

    def closure():
        optimizer.zero_grad()
        loss = backward(model, x)
        if moment == "in the closure":
            handle.remove()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    assert optimizer.param_groups[0]["weight_decay"] == 0.7
    assert (len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)) == theirs
    assert "step" not in vars(optimizer)
    backward(model, x)
    optimizer.step()


@pytest.mark.parametrize(
    "decay",
    [td.toward("initial", WD), td.forms.toward_average(WD), td.forms.constrained(kappa_initial=0.5), td.coupled(WD)],
    ids=lambda decay: repr(decay).partition("(")[0],
)
@pytest.mark.parametrize("where", ["attach", "update", "load"])
def test_what_is_made_in_inference_mode_lives_on_outside_of_it(decay, where):
    """References, averages and norms are written to by later steps, which inference tensors would refuse."""

    def run(inference):
        model, x = model_and_data()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        with torch.inference_mode(inference and where == "attach"):
            handle = ours(optimizer, model, decay)
        for _ in range(2):
            backward(model, x)
            optimizer.step()
        with torch.inference_mode(inference and where == "update"):
            handle.update(handle.plan)
        with torch.inference_mode(inference and where == "load"):
            handle.load_state_dict(handle.state_dict())
            optimizer.load_state_dict(optimizer.state_dict())
        for _ in range(2):
            backward(model, x)
            optimizer.step()
        return weights(model)

    assert same(run(True), run(False))


def test_tables_that_pay_late_catch_up_in_inference_mode_and_after_it():
    """Rows that an evaluation reads pay there, and go on paying in training."""

    def run(inference):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(6, 2, sparse=True))
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        td.attach(optimizer, td.plan(model, td.decoupled(WD, rows="lazy"), rules=()), model=model)
        for rows in ([1, 2], [3], [1]):
            optimizer.zero_grad()
            model(torch.tensor(rows)).sum().backward()
            with torch.inference_mode(inference):
                optimizer.step()
                model(torch.tensor([3, 4]))
        return weights(model)

    assert same(run(True), run(False))


def test_a_number_of_a_group_that_is_text_is_refused_by_its_name():
    """The optimizer itself would fail on it in its next step."""
    for key in ("dampening", "momentum"):
        model, _ = model_and_data()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        optimizer.param_groups[0][key] = "x"
        with pytest.raises(td.ApplyError, match=f"{key} is 'x', of type str"):
            ours(optimizer, model, td.coupled(WD))
