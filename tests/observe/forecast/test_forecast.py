"""`forecast`: what it says of every form, what it refuses, and what it never guesses."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler as schedulers

import torchdecay as td
from this_torch import Muon
from torchdecay.errors import ApplyError, LoadError, TaskError, UnitError

RUN = td.Run(steps=1000, batch_size=10, num_samples=1000, lr=0.01)


def net(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2)).to(dtype)


def of_plan(decay: td.Decay | float | None, optimizer: Any = None, **options: Any) -> td.GroupForecast:
    """The forecast of the first weight."""
    model = net()
    plan = td.plan(model, decay)
    given = None if optimizer is None else optimizer(plan.param_groups(model, lr=0.01), **options)
    run = RUN if given is None else dataclasses.replace(RUN, lr=None)
    return td.forecast(plan, optimizer=given, run=run).of("0.weight")


def kinds(group: td.GroupForecast) -> list[str]:
    return [remark.kind for remark in group.remarks]


# ── Numbers ──


@pytest.mark.parametrize("plan", [None, td.decoupled(0.1)], ids=["coupled", "decoupled"])
def test_momentum_that_takes_no_gradient_in_has_no_rest(plan: td.Decay | None) -> None:
    """With dampening=1 all but the first gradient is left out."""
    model = nn.Linear(8, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=1.0, weight_decay=0.0 if plan else 0.1)
    if plan is not None:
        td.attach(optimizer, td.plan(model, plan), model=model)
    assert td.forecast(optimizer, run=td.Run(steps=20)).groups[0].equilibrium is None
    with td.Monitor(optimizer, every_steps=1) as monitor:
        model(torch.ones(4, 8)).sum().backward()
        optimizer.step()
    assert monitor.history.steps == (1,)


class FallingDecay(schedulers.LRScheduler):
    """Moves weight_decay to 0 in twenty steps, and leaves the learning rate."""

    def get_lr(self) -> list[float]:
        for group in self.optimizer.param_groups:
            group["weight_decay"] = 0.3 * max(0.0, 1 - self.last_epoch / 20)
        return [0.05 for _ in self.optimizer.param_groups]


@pytest.mark.parametrize("make", [optim.AdamW, optim.SGD])
def test_a_scheduler_that_moves_weight_decay_is_followed(make: Any) -> None:
    """Step by step, as the training does it; where the decay is in a plan, nothing is claimed."""
    model = nn.Linear(8, 8, bias=False).double()
    optimizer = make(model.parameters(), lr=0.05, weight_decay=0.3)
    scheduler = FallingDecay(optimizer)
    (group,) = td.forecast(optimizer, run=td.Run(steps=20, lr_schedule=scheduler), model=model)
    start = model.weight.detach().clone()
    for _ in range(20):
        model.weight.grad = torch.zeros_like(start)
        optimizer.step()
        scheduler.step()
    assert group.prediction == "exact"
    assert group.total_shrink == pytest.approx(1 - float((model.weight / start).detach().mean()), rel=1e-9)
    # From 0, where a scheduler raises it, nobody knows of which decay.
    rising = optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.3)
    scheduler = FallingDecay(rising)
    rising.param_groups[0]["weight_decay"] = 0.0
    assert td.forecast(rising, run=td.Run(steps=20, lr_schedule=scheduler)).groups[0].prediction == "unknown"


def test_the_numbers_of_one_decay() -> None:
    """All of them from f = 0.01·0.1 and a thousand steps of a hundred per epoch."""
    group = of_plan(td.decoupled(0.1))
    assert group.fraction == pytest.approx(1e-3, rel=1e-12) and group.max_fraction == group.fraction
    assert group.half_life == pytest.approx(math.log(2) / -math.log(0.999))
    assert (group.timescale, group.timescale_epochs) == (pytest.approx(1000), pytest.approx(10))
    assert group.half_life_epochs == pytest.approx(6.928, rel=1e-3)
    assert group.total_shrink == pytest.approx(1 - 0.999**1000, rel=1e-12)
    assert group.retention_at(0) == 1.0
    assert group.log_retention_at(500) == pytest.approx(500 * math.log(0.999), rel=1e-12)
    assert (group.num_steps, group.first_step, group.max_lr, group.num_elements) == (1000, 0, 0.01, 48)


def test_rows_are_put_together_by_decay_and_by_group() -> None:
    """Two decays in one group, and one decay in two groups, are three entries and what is spared."""
    model = net()
    plan = td.plan(model, td.decoupled(0.1), rules=[td.rule("2.weight", td.decoupled(0.2)), *td.STANDARD])
    optimizer = optim.AdamW(
        [{"params": [model[0].weight, model[2].weight]}, {"params": [model[0].bias, model[2].bias]},
         {"params": list(model[1].parameters())}], lr=0.01)  # fmt: skip
    said = td.forecast(plan, optimizer=optimizer, run=td.Run(steps=10), model=model)
    assert [(one.index, one.decay, one.names) for one in said] == [
        (0, "decoupled(0.1)", ("0.weight",)),
        (0, "decoupled(0.2)", ("2.weight",)),
        (1, "none", ("0.bias", "2.bias")),
        (2, "none", ("1.weight", "1.bias")),
    ]
    assert said[2].total_shrink == 0.0 and said[2].half_life == math.inf and not said[2].remarks


def test_a_plan_by_itself_takes_the_lr_of_its_rows_before_that_of_the_run() -> None:
    model = net()
    plan = td.plan(model, td.decoupled(0.1), rules=[td.rule("2.weight", lr=0.1), *td.STANDARD])
    said = td.forecast(plan, run=RUN)
    assert said.of("0.weight").max_lr == 0.01 and said.of("2.weight").max_lr == 0.1


def test_plan_optimizer_and_handle_say_the_same() -> None:
    """Planned, to be attached, or at work: one forecast."""
    model = net()
    plan = td.plan(model, td.independent(0.001))
    optimizer = optim.AdamW(plan.param_groups(model), lr=0.01)
    alone = td.forecast(plan, run=RUN).of("0.weight")
    before = td.forecast(plan, optimizer=optimizer, run=RUN).of("0.weight")
    with td.attach(optimizer, plan, model=model):
        attached = td.forecast(optimizer, run=RUN).of("0.weight")
    assert before == attached
    assert alone.total_shrink == attached.total_shrink and alone.curve == attached.curve
    assert attached.equilibrium is not None and alone.equilibrium is None


def test_the_scheduler_brings_its_optimizer() -> None:
    model = net()
    plan = td.plan(model, td.coupled(0.1))
    optimizer = optim.SGD(plan.param_groups(model), lr=0.01)
    run = td.Run(steps=10, lr_schedule=schedulers.StepLR(optimizer, 5))
    assert td.forecast(plan, run=run).of("0.weight").optimizer == "SGD"


def test_an_optimizer_by_its_class() -> None:
    """As the optimizer itself, for plans that were saved and have no model at hand."""
    model = net()
    plan = td.plan(model, td.native(0.1), rules=[td.rule("2.weight", lr=0.1), *td.STANDARD])
    saved = td.Plan.from_json(plan.to_json())
    by_class = td.forecast(saved, optimizer=optim.AdamW, run=RUN)
    by_itself = td.forecast(plan, optimizer=optim.AdamW(plan.param_groups(model, lr=0.01)), run=RUN)
    assert all(by_class.of(name) == dataclasses.replace(by_itself.of(name), index=by_class.of(name).index)
               for name in ("0.weight", "2.weight"))  # fmt: skip
    with pytest.raises(UnitError, match="the run has no learning rate"):
        td.forecast(plan, optimizer=optim.AdamW, run=td.Run(steps=10))
    with pytest.raises(ApplyError, match="Muon can't be built"):
        td.forecast(plan, optimizer=Muon, run=RUN)
    with pytest.raises(ApplyError, match="made a list"):
        td.forecast(plan, optimizer=list, run=RUN)


def test_several_optimizers() -> None:
    """A list is forecast as a whole; the scheduler of one says nothing about the other."""
    model = net()
    plan = td.plan(model, td.decoupled(0.1))
    one = optim.AdamW([{"params": [model[0].weight], "param_names": ["0.weight"]}], lr=0.01)
    two = optim.SGD([{"params": [model[2].weight], "param_names": ["2.weight"]}], lr=0.1)
    said = td.forecast(plan, optimizer=[one, two], run=td.Run(steps=10))
    assert [(group.optimizer, group.optimizer_index) for group in said] == [("AdamW", 0), ("SGD", 1)]
    run = td.Run(steps=10, lr_schedule=schedulers.StepLR(one, 3))
    said = td.forecast(plan, optimizer=[one, two], run=run)
    assert said[0].prediction == "exact" and said[1].prediction == "unknown"


def test_a_forecast_changes_nothing() -> None:
    model = net()
    optimizer = optim.AdamW(td.param_groups(model, 0.1), lr=0.01)
    scheduler = schedulers.CosineAnnealingLR(optimizer, 100)
    before = [dict(group) for group in optimizer.param_groups]
    td.forecast(optimizer, run=td.Run(steps=100, lr_schedule=scheduler))
    assert all(
        group.keys() == old.keys() and all(group[key] is old[key] for key in old)
        for group, old in zip(optimizer.param_groups, before, strict=True)
    )
    assert scheduler.last_epoch == 0 and not optimizer.state


# ── What is known, bounded, unknown ──


@pytest.mark.parametrize(
    ("decay", "optimizer", "prediction"),
    [
        (td.decoupled(0.1), None, "exact"),
        (td.decoupled(0.1, rows="lazy"), None, "exact"),
        (td.toward("initial", 0.1), None, "exact"),
        (td.forms.proximal(0.1), None, "exact"),
        (td.coupled(0.1), optim.SGD, "exact"),
        (td.penalized(0.1), optim.SGD, "exact"),
        (td.native(0.1), optim.AdamW, "exact"),
        (td.forms.stable(0.1), optim.SGD, "exact"),
        (td.cautious(0.1), None, "at most"),
        (td.decoupled(0.1, rows="touched"), None, "at most"),
        (td.forms.huber(0.1, delta=0.5), None, "at most"),
        (td.native(0.1), None, "unknown"),
        (td.coupled(0.1), None, "unknown"),
        (td.penalized(0.1), optim.Adam, "unknown"),
        (td.coupled(0.1), optim.Adam, "unknown"),
        (td.coupled(0.1), optim.RMSprop, "unknown"),
        (td.decoupled(0.1), optim.ASGD, "unknown"),
        (td.l1(0.1), optim.SGD, "unknown"),
        (td.elastic_net(l1=0.1, l2=0.1), optim.SGD, "unknown"),
        (td.forms.stable(0.1), optim.AdamW, "unknown"),
        (td.forms.adaptive(0.1), optim.SGD, "unknown"),
        (td.forms.ada_decay(0.1), optim.SGD, "unknown"),
        (td.forms.constrained(kappa=1.0), optim.AdamW, "unknown"),
        (td.forms.norm_control(0.1), optim.AdamW, "unknown"),
        (td.forms.by_spectrum(0.1), optim.AdamW, "unknown"),
        (td.forms.spectral(0.1), optim.AdamW, "unknown"),
        (td.forms.toward_average(0.1, beta=0.9), optim.AdamW, "unknown"),
        (td.forms.projected("initial", 0.1), optim.AdamW, "unknown"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_how_much_is_known_of_each_form(decay: td.Decay, optimizer: Any, prediction: str) -> None:
    """What is unknown has no number at all, and says why; what is bounded says by what."""
    group = of_plan(decay, optimizer)
    assert group.prediction == prediction
    numbers = (group.fraction, group.max_fraction, group.half_life, group.timescale, group.total_shrink, group.curve)
    if prediction == "unknown":
        assert numbers == (None,) * 6 and group.equilibrium is None and group.retention_at(3) is None
        assert group.remarks[0].kind == "unknown" and group.why in group.remarks[0].text
    else:
        assert None not in numbers
    assert ("bound" in kinds(group)) is (prediction == "at most")


def test_a_cautious_pull_is_bounded_by_the_plain_one() -> None:
    assert of_plan(td.cautious(0.1)).total_shrink == of_plan(td.decoupled(0.1)).total_shrink


def test_an_optimizer_of_unknown_meaning_is_not_guessed() -> None:
    """It is measured, by verify; but a decay that is attached to it is known."""

    class Own(optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.1, "weight_decay": 0.1})

        def step(self, closure: Any = None) -> None: ...

    model = net()
    optimizer = Own(model.parameters())
    (group,) = td.forecast(optimizer, run=td.Run(steps=10))
    assert group.prediction == "unknown" and "td.verify measures it" in group.why
    with td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model):
        assert td.forecast(optimizer, run=td.Run(steps=10)).of("0.weight").prediction == "exact"


def test_what_follows_a_metric_is_unknown_unless_the_lr_does_not_matter() -> None:
    """ReduceLROnPlateau: per_step takes its fraction at any learning rate, decoupled does not."""
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    run = td.Run(steps=10, lr_schedule=schedulers.ReduceLROnPlateau(optimizer))

    def said(decay: td.Decay) -> td.GroupForecast:
        return td.forecast(td.plan(model, decay), run=run, model=model).of("0.weight")

    unknown, known = said(td.decoupled(0.1)), said(td.per_step(0.01))
    assert unknown.prediction == "unknown" and "ReduceLROnPlateau" in unknown.why
    assert known.total_shrink == pytest.approx(1 - 0.99**10) and known.max_lr is None
    assert "unknown" in str(td.forecast(td.plan(model, td.decoupled(0.1)), run=run, model=model))


# ── Remarks ──


def test_too_weak_within_an_epoch_or_neither() -> None:
    """By the time scale: longer than the run, shorter than an epoch."""
    assert kinds(of_plan(td.decoupled(0.09))) == ["too weak"]
    assert kinds(of_plan(td.decoupled(0.2))) == []
    assert kinds(of_plan(td.decoupled(1.1))) == ["within an epoch"]
    assert kinds(of_plan(td.decoupled(0.1, schedule=lambda step: 0.0))) == ["too weak"]


@pytest.mark.parametrize(("weight_decay", "kind"), [(99.0, []), (150.0, ["sign flip"]), (250.0, ["diverges"])])
def test_a_sign_flip_ahead(weight_decay: float, kind: list[str]) -> None:
    """c·λ above 1 at the peak of a schedule whose beginning is harmless; above 2 weights grow."""
    optimizer = optim.AdamW(net().parameters(), lr=0.01, weight_decay=weight_decay)
    run = td.Run(steps=8, lr_schedule="linear", warmup_steps=4)
    (group,) = td.forecast(optimizer, run=run)
    assert [one for one in kinds(group) if one != "too weak"] == kind
    left = math.prod(1 - weight_decay * 0.01 * m for m in (0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25))
    assert group.total_shrink == pytest.approx(1 - left, rel=1e-9)


def test_momentum_swings() -> None:
    """The worked value 0.1 at lr 0.1 and momentum 0.9 carries weights through zero; decay there is no slow pull."""
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=0.1)
    (group,) = td.forecast(optimizer, run=td.Run(steps=40))
    assert "swings" in kinds(group)
    for _ in range(40):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    assert group.total_shrink == pytest.approx(1 - float(weight.detach()), rel=1e-9)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("step", [5e-4, 1.9e-3, 8e-3, 1e-2])
def test_a_bound_in_bf16_counts_what_momentum_adds_up(step: float, nesterov: bool) -> None:
    """Each gradient alone is too small to be seen at 0.01 per settled step, the sum of ten is not."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(64, 64).bfloat16())
    optimizer = optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=step, nesterov=nesterov)
    (group,) = td.forecast(optimizer, run=td.Run(steps=50))
    start = weight.detach().double().norm()
    for _ in range(50):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    gone = 1 - float(weight.detach().double().norm() / start)
    assert group.prediction == ("at most" if step < 1.95e-3 else "unknown")
    assert group.total_shrink is None or gone <= group.total_shrink + 1e-12
    assert ("rounded away" in kinds(group)) is (group.prediction == "at most")


def test_bf16_rounds_it_away_and_attach_pays_it() -> None:
    """Natively nothing happens at all; the same decay attached is exact."""
    model = net(torch.bfloat16)
    optimizer = optim.AdamW(td.param_groups(model, 0.1), lr=0.01)
    run = td.Run(steps=1000)
    native = td.forecast(optimizer, run=run).of("0.weight")
    assert native.prediction == "at most" and kinds(native)[0] == "rounded away"
    paid = td.forecast(td.plan(model, td.decoupled(0.1)), optimizer=optimizer, run=run).of("0.weight")
    assert paid.prediction == "exact" and kinds(paid)[0] == "rounding is paid"
    # What the remark says is so: the weight does not move.
    before = model[0].weight.detach().clone()
    for _ in range(10):
        for param in model.parameters():
            param.grad = torch.zeros_like(param)
        optimizer.step()
    assert torch.equal(model[0].weight, before)


def test_a_plan_that_is_not_at_work() -> None:
    """Groups that wait for attach have no decay, and say so; hooks lost by a copy likewise."""
    model = net()
    plan = td.plan(model, td.cautious(0.1))
    optimizer = optim.AdamW(plan.param_groups(model), lr=0.01)
    group = td.forecast(optimizer, run=td.Run(steps=10)).of("0.weight")
    assert group.total_shrink == 0.0 and kinds(group) == ["not at work"]
    assert "cautious(0.1) was planned and never attached" in group.remarks[0].text


def test_a_peak_that_is_passed() -> None:
    """independent divides by a peak that the schedule does not keep to."""
    model = net()
    plan = td.plan(model, td.independent(0.001, max_lr=0.005))
    assert kinds(td.forecast(plan, run=RUN).of("0.weight"))[0] == "above the peak"


def test_a_cosine_that_turns() -> None:
    """CosineAnnealingLR goes up again after T_max; the forecast follows it and says so."""
    optimizer = optim.AdamW(net().parameters(), lr=0.01)
    run = td.Run(steps=100, lr_schedule=schedulers.CosineAnnealingLR(optimizer, 50))
    (group,) = td.forecast(optimizer, run=run)
    assert "the schedule turns" in kinds(group)


# ── Bad input ──


def test_a_schedule_shorter_than_the_run() -> None:
    optimizer = optim.AdamW(net().parameters(), lr=0.01)
    run = td.Run(steps=100, lr_schedule=schedulers.OneCycleLR(optimizer, 0.1, total_steps=50))
    with pytest.raises(UnitError, match="OneCycleLR ends at step 51, the run has 100"):
        td.forecast(optimizer, run=run)


@pytest.mark.parametrize(("lr", "said"), [(0.0, "is 0 over the whole run"), (-0.1, "learning rate is -0.1")])
def test_a_learning_rate_of_zero_or_less(lr: float, said: str) -> None:
    optimizer = optim.AdamW(net().parameters(), lr=0.01)
    optimizer.param_groups[0]["lr"] = lr
    with pytest.raises(UnitError, match=said):
        td.forecast(optimizer, run=td.Run(steps=10))


def test_no_learning_rate() -> None:
    """Where it matters: a fraction per step takes what it takes."""
    with pytest.raises(UnitError, match="no learning rate"):
        td.forecast(td.plan(net(), td.decoupled(0.1)), run=td.Run(steps=10))
    said = td.forecast(td.plan(net(), td.per_step(0.1)), run=td.Run(steps=10)).of("0.weight")
    assert said.total_shrink == pytest.approx(1 - 0.9**10)


@pytest.mark.parametrize("key", ["betas", "max_lr", "initial_lr"])
@pytest.mark.parametrize("value", [None, 0.9, (0.9,), (None, None), "xy"], ids=str)
@pytest.mark.parametrize("kind", [optim.AdamW, optim.NAdam])
def test_odd_keys_of_groups_are_left_out(kind: Any, key: str, value: Any) -> None:
    """As libraries have them: what is no number, or no pair, has no part in a forecast, nor in an inspection."""
    optimizer = kind(net().parameters(), lr=0.01, weight_decay=0.1)
    optimizer.param_groups[0][key] = value
    for schedule in (None, "cosine", schedulers.StepLR(optimizer, 3) if key == "betas" else None):
        (group,) = td.forecast(optimizer, run=td.Run(steps=10, lr_schedule=schedule))
        assert key != "betas" or group.equilibrium is None
        assert td.inspect(optimizer)[0].names == group.names


@pytest.mark.parametrize("value", ["x", [0.1], True, torch.ones(2), math.nan], ids=str)
@pytest.mark.parametrize("schedule", [None, "cosine", "scheduler"])
def test_a_learning_rate_that_is_no_number(value: Any, schedule: Any) -> None:
    optimizer = optim.AdamW(net().parameters(), lr=0.01)
    scheduler = schedulers.LambdaLR(optimizer, lambda step: 1.0)
    optimizer.param_groups[0]["lr"] = value
    with pytest.raises(UnitError, match=r"lr=|learning rate"):
        td.forecast(optimizer, run=td.Run(steps=10, lr_schedule=scheduler if schedule == "scheduler" else schedule))


@pytest.mark.parametrize("value", [None, "x", -1.0, math.nan, math.inf], ids=str)
def test_a_schedule_that_returns_no_multiplier(value: Any) -> None:
    with pytest.raises(UnitError, match=r"lr_schedule returned .* at step 0"):
        td.forecast(optim.AdamW(net().parameters()), run=td.Run(steps=10, lr_schedule=lambda step: value))


def test_a_run_that_says_another_learning_rate() -> None:
    """The optimizer has its own, and a number that is not read would be worse than none."""
    optimizer = optim.AdamW(net().parameters(), lr=0.01)
    with pytest.raises(UnitError, match=r"lr is 0\.1 in the run, 0\.01 in the optimizer"):
        td.forecast(optimizer, run=td.Run(steps=10, lr=0.1))
    assert td.forecast(optimizer, run=td.Run(steps=10, lr=0.01))


def test_a_scheduler_of_another_optimizer() -> None:
    mine, other = (optim.AdamW(net().parameters(), lr=0.01) for _ in range(2))
    with pytest.raises(UnitError, match="StepLR drives another optimizer"):
        td.forecast(mine, run=td.Run(steps=10, lr_schedule=schedulers.StepLR(other, 3)))


def test_plan_and_optimizer_disagree() -> None:
    """Parameters that the plan lacks, or that the optimizer lacks."""
    model = net()
    plan = td.plan(model, td.decoupled(0.1))
    other = optim.AdamW(nn.Linear(3, 3).parameters(), lr=0.01)
    with pytest.raises(ApplyError):
        td.forecast(plan, optimizer=other, run=td.Run(steps=10))
    part = optim.AdamW([{"params": [model[0].weight], "param_names": ["0.weight"]}], lr=0.01)
    with pytest.raises(ApplyError, match=r'disagree: the plan decays "2\.weight"'):
        td.forecast(plan, optimizer=part, run=td.Run(steps=10))
    with pytest.raises(ApplyError, match="an optimizer as well"):
        td.forecast(part, optimizer=part, run=td.Run(steps=10))


def test_what_is_no_optimizer_no_run_no_number() -> None:
    optimizer = optim.AdamW(net().parameters(), lr=0.01)
    with pytest.raises(ApplyError, match="is not an optimizer"):
        td.forecast(3, run=td.Run(steps=10))
    with pytest.raises(UnitError, match="run is a int"):
        td.forecast(optimizer, run=10)  # type: ignore[arg-type]
    optimizer.param_groups[0]["weight_decay"] = math.nan
    with pytest.raises(UnitError, match="weight_decay is nan"):
        td.forecast(optimizer, run=td.Run(steps=10))


def test_steps_and_names_that_are_not_there() -> None:
    said = td.forecast(td.plan(net(), td.decoupled(0.1)), run=RUN)
    with pytest.raises(UnitError, match="from 0 to 1000"):
        said[0].retention_at(1001)
    with pytest.raises(UnitError, match=r'Nearest: "0\.weight"'):
        said.of("0.wieght")
    with pytest.raises(UnitError, match='no parameter "9"'):
        said[0].norm("9")


def test_the_norm_of_a_parameter_at_rest() -> None:
    """By its own number of elements; under SGD it takes the gradient's size, and where nothing is known it is None."""
    adam, sgd = (of_plan(td.native(0.1), kind) for kind in (optim.AdamW, optim.SGD))
    assert adam.norm("0.weight") == pytest.approx(math.sqrt(0.01 * 32 / (2 * 0.1)))
    assert sgd.norm("0.weight", gradient_norm=2.0) == pytest.approx((0.01 * 4 / (2 * 0.1)) ** 0.25)
    with pytest.raises(UnitError, match="gradient_norm="):
        sgd.norm("0.weight")
    assert of_plan(td.decoupled(0.1)).norm("0.weight") is None


def test_equilibrium_is_for_the_step_that_takes_most() -> None:
    """OneCycleLR lowers the first β where it raises the learning rate, and both enter."""
    optimizer = optim.AdamW(net().parameters(), lr=0.01, weight_decay=0.1)
    scheduler = schedulers.OneCycleLR(optimizer, 0.02, total_steps=11, pct_start=0.4)
    rest = td.forecast(optimizer, run=td.Run(steps=11, lr_schedule=scheduler))[0].equilibrium
    seen = []
    for _ in range(10):
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"][0]))
        optimizer.step()
        scheduler.step()
    lr, beta = max(seen)
    assert rest is not None and rest.lr == lr and beta < 0.86
    assert rest.rotation == pytest.approx(math.sqrt(2 * rest.lr * 0.1 * (1 - beta) / (1 + beta)), rel=1e-6)


# ── Text, JSON, figure ──


def some() -> td.Forecast:
    model = net()
    plan = td.plan(model, td.decoupled(0.5), rules=[td.rule("2.weight", td.l1(0.1)), *td.STANDARD])
    return td.forecast(plan, optimizer=optim.AdamW(plan.param_groups(model), lr=0.01),
                       run=td.Run(steps=3000, lr_schedule="cosine"))  # fmt: skip


def test_json_comes_back_equal() -> None:
    """Infinities included; steps between the points of the curve are then interpolated."""
    said = some()
    again = td.Forecast.from_json(said.to_json())
    assert again == said
    mine, theirs = said.of("0.weight"), again.of("0.weight")
    for step in (0, 1, 777, 3000):
        assert theirs.log_retention_at(step) == pytest.approx(mine.log_retention_at(step), abs=1e-4)
    assert again.of("2.weight").retention_at(5) is None
    assert len(json.loads(said.to_json())["groups"][0]["curve"]["steps"]) == 257


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text[: len(text) // 2], "not a forecast"),
        (lambda text: "[]", "does not say format"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "version 2"),
        (lambda text: text.replace('"total_shrink"', '"total"'), "total_shrink"),
        (lambda text: text.replace('"exact"', '"guessed"'), "guessed"),
    ],
    ids=["truncated", "another", "newer", "incomplete", "edited"],
)
def test_a_file_that_is_no_forecast(spoil: Any, said: str) -> None:
    with pytest.raises(LoadError, match=said):
        td.Forecast.from_json(spoil(some().to_json()))


def test_the_table_says_what_is_unknown() -> None:
    text = some().to_text(width=140)
    assert "decoupled(0.5)" in text and "°/step" in text and "Run: 3,000 steps; learning rate: cosine." in text
    assert "AdamW 2, l1(0.1): unknown: what it takes is no fixed part of a weight." in text
    assert "?" in next(line for line in text.splitlines() if "l1(0.1)" in line)


def test_names_can_not_garble_the_table() -> None:
    model = nn.ModuleDict({"a\x1b[31m[red]": nn.Linear(2, 2)})
    text = str(td.forecast(td.plan(model, td.decoupled(0.1)), run=RUN))
    assert "\x1b" not in text and "[red]" in text


@pytest.mark.parametrize("name", ["a.svg", "a.png"])
def test_the_figure(tmp_path: Path, name: str) -> None:
    """A file of its kind, with the numbers in words in the SVG."""
    path = td.figure(some(), tmp_path / name)
    content = path.read_bytes()
    if name == "a.svg":
        assert b"decoupled(0.5)" in content and b"What is left of a weight without gradient over 3,000" in content
    else:
        assert content.startswith(b"\x89PNG")


def test_a_figure_of_nothing(tmp_path: Path) -> None:
    """No decay, or none that is known: said, not drawn."""
    with pytest.raises(TaskError, match="nothing to draw"):
        td.figure(td.forecast(td.plan(net(), td.native(0.1)), run=RUN), tmp_path / "a.svg")
    with pytest.raises(TaskError, match=r"in \.svg or \.png"):
        td.figure(some(), tmp_path / "a.pdf")


def test_a_weight_that_grows_beyond_all_numbers(tmp_path: Path) -> None:
    """Native AdamW at lr·wd = 10 multiplies by −9 per step: said, written and drawn all the same."""
    optimizer = optim.AdamW(net().parameters(), lr=0.1, weight_decay=100.0)
    (group,) = said = td.forecast(optimizer, run=td.Run(steps=1001))
    assert group.retention_at(1001) == math.inf and group.total_shrink == math.inf
    assert td.Forecast.from_json(said.to_json()) == said
    assert td.figure(said, tmp_path / "a.png").exists() and "diverges" in str(said)
