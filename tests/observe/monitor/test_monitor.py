"""What a monitor measures in one real step, held against the same worked out by hand; and when it measures."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.errors import ApplyError, DecayError

LR, WD = 0.01, 0.5


def make_model(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)


def backward(model, seed=0):
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(seed)).to(next(model.parameters()))
    model(x).square().mean().backward()


def train(model, optimizer, steps):
    for step in range(steps):
        optimizer.zero_grad()
        backward(model, step)
        optimizer.step()


def unplanned(history):
    """Alarms that say that decay is not what was planned."""
    return [event for event in history.events if event.kind not in ("dominates", "grows")]


def value(history, group, quantity, at=-1):
    return history.curve(group, quantity)[1][at]


# ── Each way in which decay is carried out ──

NATIVE = {
    "AdamW": lambda params: optim.AdamW(params, lr=LR, weight_decay=WD),
    "AdamW foreach": lambda params: optim.AdamW(params, lr=LR, weight_decay=WD, foreach=True),
    "AdamW fused": lambda params: optim.AdamW(params, lr=LR, weight_decay=WD, fused=True),
    "AdamW amsgrad": lambda params: optim.AdamW(params, lr=LR, weight_decay=WD, amsgrad=True),
    "AdamW maximize": lambda params: optim.AdamW(params, lr=LR, weight_decay=WD, maximize=True),
    "AdamW tensor lr": lambda params: optim.AdamW(params, lr=torch.tensor(LR), weight_decay=WD, foreach=False),
    "Adam decoupled": lambda params: optim.Adam(params, lr=LR, weight_decay=WD, decoupled_weight_decay=True),
    "NAdam decoupled": lambda params: optim.NAdam(params, lr=LR, weight_decay=WD, decoupled_weight_decay=True),
    "NAdam maximize": lambda params: optim.NAdam(
        params, lr=LR, weight_decay=WD, decoupled_weight_decay=True, maximize=True
    ),
    "RAdam decoupled": lambda params: optim.RAdam(params, lr=LR, weight_decay=WD, decoupled_weight_decay=True),
    "SGD coupled": lambda params: optim.SGD(params, lr=LR, weight_decay=WD),
    "SGD maximize": lambda params: optim.SGD(params, lr=LR, weight_decay=WD, maximize=True),
}
HOOKED = {
    "decoupled": td.decoupled(WD),
    "independent": td.independent(WD * LR),
    "per_step": td.per_step(WD * LR),
    "proximal": td.forms.proximal(WD * LR),
}


@pytest.mark.parametrize("name", NATIVE)
def test_a_kernels_own_decay_is_told_from_its_update(name):
    """The whole displacement less the update that the state tells is the decay, to rounding, early and late."""
    model = make_model()
    optimizer = NATIVE[name](model.parameters())
    with td.Monitor(optimizer, every_steps=5, model=model) as monitor:
        train(model, optimizer, 12)
    history = monitor.history
    assert history.of("weight").source == "state"
    assert history.steps == (1, 5, 10)
    _, realized = history.curve("weight", "realized_shrink")
    # Records are float32; and 1 − f is, where the learning rate is a tensor of that.
    assert realized == pytest.approx([LR * WD] * 3, rel=2e-5 if "tensor" in name else 1e-6)
    assert history.curve("weight", "planned_shrink")[1] == pytest.approx([LR * WD] * 3, rel=1e-6)
    assert not unplanned(history)


@pytest.mark.parametrize("name", HOOKED)
@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_a_pass_of_decay_is_measured_around_itself(name, kind):
    """What happens between the snapshots is the pass, before the update or after it."""
    model = make_model()
    make = {"SGD": lambda p: optim.SGD(p, lr=LR, momentum=0.9), "AdamW": lambda p: optim.AdamW(p, lr=LR)}[kind]
    optimizer = make(model.parameters())
    td.attach(optimizer, td.plan(model, HOOKED[name]), model=model, via="hook")
    with td.Monitor(optimizer, every_steps=3) as monitor:
        train(model, optimizer, 7)
    history = monitor.history
    assert history.of("weight").source == "pass"
    assert history.curve("weight", "realized_shrink")[1] == pytest.approx(
        history.curve("weight", "planned_shrink")[1], rel=1e-5
    )
    assert value(history, "weight", "planned_shrink") == pytest.approx(
        LR * WD / (1 + LR * WD) if name == "proximal" else LR * WD, rel=1e-6
    )
    assert not unplanned(history)


def test_every_number_of_one_step_is_what_it_says():
    """Norms, displacements, cosine and angle, each from the weights before and after, by its definition."""
    model = nn.Linear(6, 4, bias=False).double()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, td.decoupled(WD)), model=model)
    backward(model)
    before, gradient = model.weight.detach().clone(), model.weight.grad.clone()
    with td.Monitor(optimizer) as monitor:
        optimizer.step()
    decay, update = -0.1 * WD * before, -0.1 * gradient
    after = before + decay + update
    assert torch.allclose(after, model.weight)
    cos = torch.nn.functional.cosine_similarity
    expected = {
        "weight_norm": before.norm(),
        "gradient_norm": gradient.norm(),
        "lr": 0.1,
        "planned_shrink": 0.1 * WD,
        "realized_shrink": 0.1 * WD,
        "decay_norm": decay.norm(),
        "update_norm": update.norm(),
        "cosine": cos(decay.flatten(), update.flatten(), dim=0),
        "rotation": torch.arccos(cos(before.flatten(), after.flatten(), dim=0)),
        "predicted_rotation": math.sqrt(2 * 0.1 * WD),
    }
    found = {name: value(monitor.history, "weight", name) for name in monitor.history.quantities}
    assert found == pytest.approx({name: float(one) for name, one in expected.items()}, rel=1e-5)


def test_what_momentum_brings_is_planned_for_its_rest_and_measured_as_it_comes():
    """The plan is what momentum comes to once it has settled; the first step takes a tenth of that."""
    model = make_model()
    optimizer = optim.SGD(td.param_groups(model, WD), lr=LR, momentum=0.9)
    with td.Monitor(optimizer) as monitor:
        train(model, optimizer, 1)
    history = monitor.history
    assert (history.of("weight").source, history.of("weight").carried) == ("shadow", "followed")
    # Once momentum has settled weights swing, and the product of the recursion's roots is the momentum.
    assert value(history, "weight", "planned_shrink") == pytest.approx(1 - 0.9**0.5, rel=1e-6)
    assert value(history, "weight", "realized_shrink") == pytest.approx(LR * WD, rel=1e-6)
    assert value(history, "weight", "carried_shrink") == 0
    assert value(history, "weight", "decay_norm") == pytest.approx(
        LR * WD * value(history, "weight", "weight_norm"), rel=1e-5
    )


def test_a_penalty_in_the_loss_is_planned_too():
    """It reaches the weights through the gradient."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=LR)
    handle = td.attach(optimizer, td.plan(model, td.penalized(WD)), model=model)
    with td.Monitor(optimizer) as monitor:
        (model(torch.ones(2, 6).double()).sum() + handle.penalty(model)).backward()
        optimizer.step()
    assert monitor.history.of("weight").source == "planned"
    assert value(monitor.history, "weight", "planned_shrink") == pytest.approx(LR * WD, rel=1e-6)


def test_an_optimizer_that_nobody_knows_is_not_guessed():
    """Its weight_decay may be coupled or not, so there is no plan; this one never reads it, and that is measured."""

    class Own(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": LR, "weight_decay": WD})

        def step(self, closure=None):
            with torch.no_grad():
                for param in self.param_groups[0]["params"]:
                    param.sub_(param.grad, alpha=LR)

    model = make_model()
    optimizer = Own(model.parameters())
    with td.Monitor(optimizer, model=model) as monitor:
        train(model, optimizer, 1)
    assert monitor.history.of("weight").source == "shadow"
    assert "planned_shrink" not in monitor.history.quantities
    assert value(monitor.history, "weight", "realized_shrink") == 0
    assert value(monitor.history, "weight", "update_norm") == pytest.approx(
        LR * value(monitor.history, "weight", "gradient_norm"), rel=1e-5
    )


# ── Forms ──


def test_caution_shows_the_share_that_it_spared():
    """Counted in the weights: those that its pass did not move."""
    model = nn.Linear(6, 5, bias=False).double()
    optimizer = optim.SGD(model.parameters(), lr=LR)
    td.attach(optimizer, td.plan(model, td.cautious(WD)), model=model)
    backward(model)
    spared = (model.weight * model.weight.grad < 0).double().mean()
    with td.Monitor(optimizer) as monitor:
        optimizer.step()
    assert 0 < spared < 1
    assert value(monitor.history, "weight", "masked_share") == pytest.approx(float(spared), abs=1e-6)
    assert value(monitor.history, "weight", "realized_shrink") < value(monitor.history, "weight", "planned_shrink")
    assert not monitor.history.events, "caution takes less than was planned by design"


def test_l1_shows_its_zeros_and_constrained_its_dual():
    """Exact zeros are counted after the step; μ is read from the controller."""
    model = nn.Linear(6, 5, bias=False).double()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, td.l1(1.0)), model=model)
    with td.Monitor(optimizer) as monitor:
        train(model, optimizer, 1)
    zeros = float((model.weight == 0).double().mean())
    assert 0 < zeros < 1
    assert value(monitor.history, "weight", "zero_share") == pytest.approx(zeros, abs=1e-6)

    model = nn.Linear(6, 5, bias=False).double()
    optimizer = optim.SGD(model.parameters(), lr=0.0001)
    handle = td.attach(optimizer, td.plan(model, td.forms.constrained(kappa_initial=0.5)), model=model)
    with td.Monitor(optimizer) as monitor:
        train(model, optimizer, 1)
    mu = handle.duals["weight"]
    assert mu > 0
    assert value(monitor.history, "weight", "dual") == pytest.approx(mu, rel=1e-6)


def test_low_precision_weights_that_pay_late_count_what_they_owe():
    """Planned and realized agree at every step, those without a payment and those with one."""
    torch.manual_seed(0)
    model = nn.Linear(128, 128, bias=False).bfloat16()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    td.attach(optimizer, td.plan(model, td.decoupled(1.0)), model=model)
    with td.Monitor(optimizer, every_steps=1) as monitor:
        for _ in range(10):
            model.weight.grad = torch.randn(128, 128).bfloat16()
            optimizer.step()
    _, realized = monitor.history.curve("weight", "realized_shrink")
    # 0.001 falls due every fourth step; stochastic rounding leaves 2⁻⁹/√16384 of noise there.
    assert realized == pytest.approx([1e-3] * 10, rel=0.05)
    assert not monitor.history.events


def test_scale_invariant_weights_have_an_effective_learning_rate():
    """Found by their gradient, which is at right angles to them; η/‖θ‖² under SGD, η√C/‖θ‖ under Adam's kin."""
    for make, expected in (
        (lambda p: optim.SGD(p, lr=0.1), lambda norm, count: 0.1 / norm**2),
        (lambda p: optim.AdamW(p, lr=0.1), lambda norm, count: 0.1 * math.sqrt(count) / norm),
    ):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5, bias=False), nn.LayerNorm(5, elementwise_affine=False), nn.Linear(5, 3))
        optimizer = make(model.double().parameters())
        with td.Monitor(optimizer, model=model, by="tensor") as monitor:
            train(model, optimizer, 1)
        history = monitor.history
        norm = value(history, "0.weight", "weight_norm")
        assert value(history, "0.weight", "effective_lr") == pytest.approx(expected(norm, 30), rel=1e-5)
        assert history.curve("2.weight", "effective_lr") == ((), ())


# ── Groups ──


def test_groups_are_roles_blocks_tensors_or_what_the_user_says():
    """The same weights, arranged; a group whose weights are pulled differently is split, and says so."""
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)]), "head": nn.Linear(6, 2)})
    optimizer = optim.AdamW(td.param_groups(model, 0.1), lr=LR)
    for param in model.parameters():
        param.grad = torch.ones_like(param)

    def groups(by):
        with td.Monitor(optimizer, by=by) as monitor:
            optimizer.step()
        return monitor.history.groups

    assert groups("role") == ("weight", "bias")
    assert groups("tensor") == (
        "layers.0.weight", "layers.1.weight", "head.weight", "layers.0.bias", "layers.1.bias", "head.bias",
    )  # fmt: skip
    native = "decoupled(0.1)"
    assert groups("block") == (
        f"layers.0, {native}", f"layers.1, {native}", f"head, {native}", "layers.0, spared", "layers.1, spared",
        "head, spared",
    )  # fmt: skip
    assert groups(lambda name: "all") == (f"all, {native}", "all, spared")


def test_a_group_adds_up_its_tensors():
    """Norms add in squares, shrinks with the square of each norm as weight."""
    model = make_model()
    optimizer = optim.AdamW(
        [{"params": [model[0].weight], "weight_decay": 0.1}, {"params": [model[2].weight], "weight_decay": 0.1}], lr=LR
    )
    optimizer.param_groups[1]["lr"] = 3 * LR
    backward(model)
    squares = [float(p.detach().square().sum()) for p in (model[0].weight, model[2].weight)]
    with td.Monitor(optimizer, model=model) as monitor:
        optimizer.step()
    assert value(monitor.history, "weight", "weight_norm") == pytest.approx(math.sqrt(sum(squares)), rel=1e-6)
    expected = 0.1 * LR * (squares[0] + 3 * squares[1]) / sum(squares)
    assert value(monitor.history, "weight", "planned_shrink") == pytest.approx(expected, rel=1e-6)
    assert value(monitor.history, "weight", "realized_shrink") == pytest.approx(expected, rel=1e-6)


def test_a_large_tensor_is_measured_on_a_sample():
    """Norms are of the whole; displacements are estimated, within a few percent, and the shrink is exact."""
    torch.manual_seed(0)
    model = nn.Linear(300, 700, bias=False)
    found = []
    for sample in (4096, None):
        one = copy.deepcopy(model)
        optimizer = optim.AdamW(one.parameters(), lr=LR, weight_decay=WD)
        one.weight.grad = torch.randn(700, 300, generator=torch.Generator().manual_seed(1))
        with td.Monitor(optimizer, model=one, sample=sample) as monitor:
            optimizer.step()
        names = ("weight_norm", "update_norm", "rotation", "realized_shrink")
        found.append({name: value(monitor.history, "weight", name) for name in names})
    assert found[0]["weight_norm"] == found[1]["weight_norm"]
    assert found[0] == pytest.approx(found[1], rel=0.03)
    assert found[0]["realized_shrink"] == pytest.approx(LR * WD, rel=1e-4)


def test_channels_last_weights_and_transposed_gradients_are_read_at_the_same_places():
    """Elements belong together by their index, not by where they lie in memory."""
    torch.manual_seed(0)
    model = nn.Conv2d(8, 64, 3, bias=False).double().to(memory_format=torch.channels_last)
    optimizer = optim.AdamW(model.parameters(), lr=LR, weight_decay=WD)
    for sample in (256, None):
        with td.Monitor(optimizer, model=model, sample=sample) as monitor:
            model.weight.grad = torch.randn(64, 8, 3, 3).double()
            optimizer.step()
        assert value(monitor.history, "weight", "realized_shrink") == pytest.approx(LR * WD, rel=1e-6)


# ── When ──


@pytest.mark.parametrize("via", ["positional", "keyword"])
@pytest.mark.parametrize("hooked", [False, True])
def test_a_closure_is_waited_for(via, hooked):
    """The gradients are there when the closure has run, and the passes of decay come after it."""
    model = make_model()
    optimizer = optim.AdamW(td.param_groups(model, WD), lr=LR)
    if hooked:
        td.attach(optimizer, td.plan(model, td.decoupled(WD)), model=model, via="hook")

    def closure():
        optimizer.zero_grad()
        backward(model)
        return torch.zeros(())

    with td.Monitor(optimizer) as monitor:
        if via == "positional":
            optimizer.step(closure)
        else:
            optimizer.step(closure=closure)
    assert value(monitor.history, "weight", "realized_shrink") == pytest.approx(LR * WD, rel=1e-6)
    assert value(monitor.history, "weight", "gradient_norm") > 0


def test_lbfgs_is_watched_from_its_first_evaluation_to_its_end():
    """It evaluates many times a step; the step is the whole of it."""
    model = nn.Linear(6, 4, bias=False).double()
    optimizer = optim.LBFGS(model.parameters(), lr=0.1, max_iter=5)
    before = model.weight.detach().clone()

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(2, 6).double()).square().mean()
        loss.backward()
        return loss

    with td.Monitor(optimizer, model=model) as monitor:
        optimizer.step(closure)
    moved = float((model.weight.detach() - before).norm())
    assert monitor.history.steps == (1,)
    assert value(monitor.history, "weight", "update_norm") == pytest.approx(moved, rel=1e-5)


def test_steps_count_as_the_optimizer_takes_them():
    """Accumulation takes one step for several backward passes, and a step at learning rate 0 is none."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=LR, weight_decay=WD)
    with td.Monitor(optimizer, every_steps=2, model=model) as monitor:
        for step in range(4):
            optimizer.zero_grad()
            backward(model, 2 * step)
            backward(model, 2 * step + 1)
            optimizer.step()
            optimizer.param_groups[0]["lr"] = 0.0
            optimizer.step()
            optimizer.param_groups[0]["lr"] = LR
    assert monitor.history.steps == (1, 2, 4)


@pytest.mark.parametrize("skipped", [{0}, {3}, {3, 4}])
def test_a_step_that_the_gradient_scaler_skips_is_none(skipped):
    """Fused optimizers are told on the device; the record waits for the next real step, with unscaled gradients."""
    model = make_model(torch.float32)
    optimizer = optim.AdamW(model.parameters(), lr=LR, weight_decay=WD, fused=True)
    norms = []
    with td.Monitor(optimizer, every_steps=4, model=model) as monitor:
        for step in range(8):
            optimizer.zero_grad()
            backward(model, step)
            norms.append(math.sqrt(sum(float(p.grad.square().sum()) for p in (model[0].weight, model[2].weight))))
            for param in model.parameters():
                param.grad.mul_(1024)
            # What GradScaler does for optimizers that know it.
            optimizer.grad_scale = torch.tensor(1024.0)
            optimizer.found_inf = torch.tensor(float(step in skipped))
            optimizer.step()
            del optimizer.grad_scale, optimizer.found_inf
        assert monitor.steps == 8 - len(skipped)
    real = [norm for step, norm in enumerate(norms) if step not in skipped]
    history = monitor.history
    assert history.steps[0] == 1 and len(history.steps) >= 2
    steps, found = history.curve("weight", "gradient_norm")
    assert found == pytest.approx([real[step - 1] for step in steps], rel=1e-4)
    assert history.curve("weight", "realized_shrink")[1] == pytest.approx([LR * WD] * len(steps), rel=1e-4)


def test_a_step_inside_a_step_is_one():
    """A subclass whose step calls its parent's fires the hooks twice."""

    class Twice(optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    model = make_model()
    optimizer = Twice(model.parameters(), lr=LR)
    td.attach(optimizer, td.plan(model, td.decoupled(WD)), model=model)
    with td.Monitor(optimizer, every_steps=1) as monitor:
        train(model, optimizer, 3)
    assert monitor.history.steps == (1, 2, 3)
    assert value(monitor.history, "weight", "realized_shrink") == pytest.approx(LR * WD, rel=1e-6)


def test_a_step_that_raised_does_not_end_the_counting():
    """Its post hooks never came, so it was not taken; one that would not have counted takes none off."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=LR)

    def closure():
        raise RuntimeError("no data")

    with td.Monitor(optimizer, every_steps=1, model=model) as monitor:
        train(model, optimizer, 1)
        with pytest.raises(RuntimeError, match="no data"):
            optimizer.step(closure)
        train(model, optimizer, 1)
        optimizer.param_groups[0]["lr"] = 0.0
        with pytest.raises(RuntimeError, match="no data"):
            optimizer.step(closure)
        optimizer.param_groups[0]["lr"] = LR
        train(model, optimizer, 1)
    assert monitor.history.steps == (1, 2, 3)


def test_a_plan_that_is_attached_later_is_seen():
    """The monitor's hooks have to stand around those of the plan, whichever came first."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    with td.Monitor(optimizer, every_steps=1, model=model) as monitor:
        train(model, optimizer, 2)
        td.attach(optimizer, td.plan(model, td.decoupled(WD)), model=model)
        train(model, optimizer, 3)
    history = monitor.history
    assert history.of("weight").source == "pass"
    assert value(history, "weight", "realized_shrink") == pytest.approx(LR * WD, rel=1e-6)
    assert not unplanned(history)


def test_parameters_that_are_added_later_are_seen():
    """A new group gets a series of its own."""
    model = make_model()
    optimizer = optim.AdamW([{"params": model[0].parameters()}], lr=LR, weight_decay=WD)
    with td.Monitor(optimizer, every_steps=1, model=model, by="tensor") as monitor:
        train(model, optimizer, 1)
        optimizer.add_param_group({"params": list(model[2].parameters())})
        train(model, optimizer, 1)
    assert monitor.history.curve("0.weight", "weight_norm")[0] == (1, 2)
    assert monitor.history.curve("2.weight", "weight_norm")[0] == (2,)


def test_several_optimizers_are_one_history():
    """Each has its own steps, and groups that say whose they are."""
    model = make_model()
    pair = [optim.AdamW(model[0].parameters(), lr=LR), optim.SGD(model[2].parameters(), lr=LR)]
    with td.Monitor(pair, model=model) as monitor:
        backward(model)
        for optimizer in pair:
            optimizer.step()
    assert monitor.history.groups == ("AdamW 1, weight", "AdamW 1, bias", "SGD 2, weight", "SGD 2, bias")
    assert len(monitor.history.records) == 2


# ── What it must not do ──


def test_training_is_the_same_to_the_bit_with_a_monitor():
    """Watching changes nothing: weights, state and random numbers."""
    ends = []
    for watched in (False, True):
        model = make_model(torch.float32)
        optimizer = optim.AdamW(td.param_groups(model, WD), lr=LR)
        td.attach(optimizer, td.plan(model, td.cautious(WD)), model=model)
        monitor = td.Monitor(optimizer, every_steps=1) if watched else None
        train(model, optimizer, 5)
        if monitor is not None:
            monitor.close()
        ends.append([*(p.detach().clone() for p in model.parameters()), torch.rand(1)])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_nothing_is_read_between_records(monkeypatch):
    """Only a step with a record asks the device for numbers: the others make no tensor at all."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=LR, fused=True)
    with td.Monitor(optimizer, every_steps=1000, model=model):
        train(model, optimizer, 1)
        asked = []
        for name in ("tolist", "item", "__float__", "__bool__", "clone", "double"):
            real = getattr(torch.Tensor, name)
            monkeypatch.setattr(
                torch.Tensor, name, lambda self, *args, name=name, real=real: (asked.append(name), real(self, *args))[1]
            )
        optimizer.step()
        assert asked == []
        optimizer.step()
    monkeypatch.undo()


def test_closing_takes_every_hook_away():
    """Afterwards the optimizer is as it was."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=LR)
    monitor = td.Monitor(optimizer, model=model)
    monitor.close()
    monitor.close()
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_verify_and_audit_do_not_count_as_steps():
    """A probe steps the real optimizer with small tensors; a monitor only watches, and is left out."""
    model = make_model()
    optimizer = optim.AdamW(td.param_groups(model, WD), lr=LR)
    with td.Monitor(optimizer, every_steps=1) as monitor:
        assert td.verify(optimizer).ok
        assert "WD2" not in str(td.audit(optimizer, model=model).codes)
        assert monitor.steps == 0
        train(model, optimizer, 1)
    assert monitor.history.steps == (1,)


@pytest.mark.long
def test_a_compiled_step_is_not_compiled_anew_as_the_counter_moves():
    """The hooks and the steps of copies stay outside of what is traced, and it takes the same steps to the bit."""
    ends, compiled = [], []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    for watched in (False, True):
        torch._dynamo.reset()
        model = make_model(torch.float32)
        optimizer = optim.SGD(model.parameters(), lr=torch.tensor(LR), momentum=0.9, weight_decay=0.1)
        step, seen = torch.compile(optimizer.step, backend=backend), len(compiled)
        with td.Monitor(optimizer, every_steps=3, model=model) if watched else nullcontext() as monitor:
            for i in range(7):
                optimizer.zero_grad()
                backward(model, i)
                step()
        ends.append((len(compiled) - seen, [param.detach().clone() for param in model.parameters()]))
    torch._dynamo.reset()
    assert monitor.history.steps == (1, 3, 6) and not monitor.history.unmeasured
    assert ends[0][0] == ends[1][0] <= 2
    assert all(torch.equal(a, b) for a, b in zip(ends[0][1], ends[1][1], strict=True))


# ── Odd tensors, groups and company ──


class Odd(nn.Module):
    """A layer, and a learned temperature."""

    def __init__(self):
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 4), nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.layer(x) * self.scale.exp()


def test_a_scalar_parameter_is_measured():
    """CLIP's logit_scale has no dimension, and its state neither."""
    model = Odd()
    optimizer = optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    with td.Monitor(optimizer, model=model, by="tensor", every_steps=1) as monitor:
        for _ in range(2):
            model(torch.ones(3, 4)).square().mean().backward()
            optimizer.step()
    assert value(monitor.history, "scale", "realized_shrink") == pytest.approx(0.001, rel=1e-2)


@pytest.mark.parametrize(
    "options", [{"lr": None}, {"lr": 0.01, "max_lr": None}, {"lr": 0.01, "betas": (0.9, 0.9, 0.9)}]
)
def test_groups_without_a_rate_or_with_three_betas_are_monitored(options):
    """As optimizers of other libraries have them: what is not known is left out, and training goes on."""

    class Own(optim.Optimizer):
        def step(self, closure=None):
            with torch.no_grad():
                for param in self.param_groups[0]["params"]:
                    param.sub_(param.grad, alpha=0.01)

    model = nn.Linear(4, 4)
    optimizer = Own(model.parameters(), {"weight_decay": 0.1, **options})
    with td.Monitor(optimizer, model=model) as monitor:
        model(torch.ones(3, 4)).square().mean().backward()
        optimizer.step()
    assert len(monitor.history.records) == 1
    assert all(group.fraction is None for group in td.forecast(optimizer, run=td.Run(steps=10)))


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD])
def test_a_weight_decay_scheduled_by_hand_is_followed(make):
    """What the group says at a step is what is planned for it, as DINO and others write it there."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 1))
    optimizer = make(td.param_groups(model, 0.04), lr=1e-2)
    meant = []
    with td.Monitor(optimizer, every_steps=1) as monitor:
        for step in range(12):
            optimizer.param_groups[0]["weight_decay"] = 0.04 + 0.36 * step / 12
            meant.append(1e-2 * optimizer.param_groups[0]["weight_decay"])
            optimizer.zero_grad()
            model(torch.randn(16, 8)).square().mean().backward()
            optimizer.step()
    assert monitor.history.curve("weight", "planned_shrink")[1] == pytest.approx(meant, rel=1e-5)
    assert not [event for event in monitor.history.events if event.kind in ("differs", "lost")]


def test_two_monitors_see_every_step():
    """Neither pushes the other out of its place around the step."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=LR)
    with td.Monitor(optimizer, every_steps=1) as first, td.Monitor(optimizer, every_steps=1) as second:
        train(model, optimizer, 4)
    assert first.history.steps == second.history.steps == (1, 2, 3, 4)


def test_spared_weights_in_bfloat16_ring_no_alarm():
    """Rounding moves them along themselves, and nothing was planned that could be lost."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 64)).bfloat16()
    plan = td.plan(model, td.decoupled(0.1))
    optimizer = optim.AdamW(plan.param_groups(model), lr=0.01)
    td.attach(optimizer, plan)
    with td.Monitor(optimizer, every_steps=1, model=model) as monitor:
        for _ in range(30):
            optimizer.zero_grad()
            x = torch.randn(32, 64).bfloat16()
            (model(x) - x).float().square().mean().backward()
            optimizer.step()
    assert not [event for event in monitor.history.events if event.kind == "rounded away"]


# ── Bad input ──


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"every_steps": 0}, DecayError, "every_steps is 0"),
        ({"sample": 10}, DecayError, "at least 256"),
        ({"start": -1}, DecayError, "start is -1"),
        ({"by": "rolle"}, ApplyError, 'Nearest: "role"'),
        ({"if_exists": "overwrite"}, ApplyError, '"append"'),
    ],
    ids=lambda one: str(one) if isinstance(one, str) else None,
)
def test_a_wrong_argument_is_told(arguments, error, says):
    """What and what to write instead, before anything is hooked."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=LR)
    with pytest.raises(error, match=says):
        td.Monitor(optimizer, model=model, **arguments)
    assert not optimizer._optimizer_step_pre_hooks


def test_what_is_no_optimizer_is_refused():
    """A scheduler, a list of parameters, an object that only looks like one."""

    class Like:
        param_groups = [{"params": [nn.Parameter(torch.ones(2))]}]  # noqa: RUF012

        def step(self):
            pass

    with pytest.raises(ApplyError, match="can't be hooked"):
        td.Monitor(Like())
    with pytest.raises(ApplyError, match="not an optimizer"):
        td.Monitor(nn.Linear(2, 2))
