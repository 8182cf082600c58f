"""What forecast says before a run is what the run does: to a weight without gradient, and as verify measures it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler as schedulers

import torchdecay as td

STEPS, LR, MAX_LR = 12, 0.05, 0.1
Scheduler = schedulers.LRScheduler

SCHEDULERS: dict[str, Callable[[optim.Optimizer], Scheduler]] = {
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda step: min(1.0, step / 4)),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda step: 0.9),
    "StepLR": lambda o: schedulers.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: schedulers.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: schedulers.LinearLR(o, 0.1, 1.0, 5),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, 8, 2.0),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, STEPS),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 3, 2),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 0.01, MAX_LR, 3),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, MAX_LR, total_steps=STEPS),
    "SequentialLR": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.1, 1.0, 4), schedulers.CosineAnnealingLR(o, STEPS - 4)], [4]
    ),
    "ChainedScheduler": lambda o: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(o, 0.5, 4), schedulers.ExponentialLR(o, 0.9)]
    ),
}

RAMP = td.schedules.cosine(1.0, 0.1, 8)


def adamw(model: nn.Module, **options: float) -> optim.Optimizer:
    return optim.AdamW(model.parameters(), lr=LR, **{"weight_decay": 0.0} | options)  # type: ignore[arg-type]


def sgd(model: nn.Module, **options: float) -> optim.Optimizer:
    return optim.SGD(model.parameters(), lr=LR, momentum=0.9, **options)  # type: ignore[arg-type]


FORMS: dict[str, tuple[Callable[..., optim.Optimizer], dict[str, float], td.Decay | None]] = {
    "native AdamW": (adamw, {"weight_decay": 0.7}, None),
    "native SGD": (sgd, {"weight_decay": 0.02, "dampening": 0.1}, None),
    "decoupled": (adamw, {}, td.decoupled(0.7, schedule=RAMP)),
    "decoupled by hook": (sgd, {}, td.decoupled(0.7)),
    "independent": (adamw, {}, td.independent(0.05)),
    "per_step": (adamw, {}, td.per_step(0.03, schedule=RAMP)),
    "per_step after the lr": (adamw, {}, td.per_step(0.03, schedule=td.schedules.follow_lr())),
    "corrected": (adamw, {}, td.corrected(0.8)),
    "proximal": (adamw, {}, td.forms.proximal(0.05)),
    "coupled": (sgd, {"nesterov": True}, td.coupled(0.02, schedule=RAMP)),
    "stable": (sgd, {}, td.forms.stable(0.05)),
}


class Weight(nn.Module):
    """One matrix that no loss depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(3, 4))


def prepared(form: str, scheduler: str) -> tuple[Weight, optim.Optimizer, Scheduler]:
    make, options, decay = FORMS[form]
    model = Weight()
    optimizer = make(model, **options)
    stepping = SCHEDULERS[scheduler](optimizer)
    if decay is not None:
        td.attach(optimizer, td.plan(model, decay, rules=()), model=model, scheduler=stepping)
    return model, optimizer, stepping


def run(model: Weight, optimizer: optim.Optimizer, scheduler: Scheduler) -> list[float]:
    """What is left of the weight after each step, starting with 1; the signs are those of the start."""
    start = model.weight.detach().clone()
    left = [1.0]
    for step in range(STEPS):
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        left.append(float((model.weight.detach() / start).mean()))
        if step + 1 < STEPS:
            scheduler.step()
    return left


def test_every_scheduler_of_torch_is_tried() -> None:
    """A new one in torch has to be added here."""
    known = {
        name
        for name, cls in vars(schedulers).items()
        if isinstance(cls, type) and issubclass(cls, Scheduler) and not name.endswith("LRScheduler")
    }
    assert known - set(SCHEDULERS) == {"ReduceLROnPlateau"}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("form", FORMS)
def test_the_total_shrink_is_that_of_a_run_without_gradient(form: str, scheduler: str) -> None:
    """At every step, not only the last; twelve roundings of float64 apart. The forecast disturbs nothing."""
    model, optimizer, stepping = prepared(form, scheduler)
    said = td.forecast(optimizer, run=td.Run(steps=STEPS, lr_schedule=stepping)).groups[0]
    left = run(model, optimizer, stepping)
    assert said.prediction == "exact"
    assert said.total_shrink == pytest.approx(1 - left[-1], rel=1e-12, abs=1e-14)
    for step, kept in enumerate(left):
        assert said.retention_at(step) == pytest.approx(kept, rel=1e-12)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("form", ["native AdamW", "decoupled", "independent", "per_step", "corrected"])
def test_each_step_is_what_verify_measures(form: str, scheduler: str) -> None:
    """One step of the forecast, held against the optimizer's own step on small tensors."""
    model, optimizer, stepping = prepared(form, scheduler)
    said = td.forecast(optimizer, run=td.Run(steps=STEPS, lr_schedule=stepping)).groups[0]
    logs = [said.log_retention_at(step) for step in range(STEPS + 1)]
    for step in range(6):
        if step == 5:
            (measured,) = td.verify(optimizer, model=model)
            assert measured.measured == pytest.approx(-math.expm1(logs[6] - logs[5]), rel=1e-6)  # type: ignore[operator]
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        stepping.step()


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("form", ["native AdamW", "independent", "native SGD"])
def test_a_plan_under_a_schedule_by_name(form: str, name: str) -> None:
    """As the same run whose learning rate is set by hand at each step."""
    make, options, decay = FORMS[form]
    model = Weight()
    optimizer = make(model, **options)
    if decay is not None:
        td.attach(optimizer, td.plan(model, decay, rules=()), model=model)
    said = td.forecast(optimizer, run=td.Run(steps=STEPS, lr_schedule=name)).groups[0]
    assert said.curve is not None and said.curve.lr is not None
    start = model.weight.detach().clone()
    for lr in said.curve.lr[:STEPS]:
        optimizer.param_groups[0]["lr"] = lr
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
    assert said.total_shrink == pytest.approx(1 - float((model.weight.detach() / start).mean()), rel=1e-12)


def test_a_job_under_way_is_forecast_from_where_it_stands() -> None:
    """The scheduler tells what is left; the decay's schedule goes on from the steps taken."""
    model, optimizer, stepping = prepared("decoupled", "OneCycleLR")
    for _ in range(5):
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        stepping.step()
    said = td.forecast(optimizer, run=td.Run(steps=STEPS, lr_schedule=stepping)).groups[0]
    assert (said.first_step, said.num_steps) == (5, 7)
    start = model.weight.detach().clone()
    for step in range(5, STEPS):
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        if step + 1 < STEPS:
            stepping.step()
    assert said.total_shrink == pytest.approx(1 - float((model.weight.detach() / start).mean()), rel=1e-12)
