"""Monitors over trainings drawn at random: healthy ones ring no alarm and measure what was planned, faults theirs."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from this_torch import HAS_SWITCH
from torchdecay.observe.monitor import budget

pytestmark = pytest.mark.long

OPTIMIZERS = {
    "AdamW": lambda p, **o: optim.AdamW(p, **o),
    "AdamW fused": lambda p, **o: optim.AdamW(p, fused=True, **o),
    "AdamW amsgrad": lambda p, **o: optim.AdamW(p, amsgrad=True, foreach=True, **o),
    "Adam": lambda p, **o: optim.Adam(p, **o),
    "NAdam": lambda p, **o: optim.NAdam(p, decoupled_weight_decay=True, **o),
    "RAdam": lambda p, **o: optim.RAdam(p, decoupled_weight_decay=True, **o),
    "SGD": lambda p, **o: optim.SGD(p, **o),
    "SGD maximize": lambda p, **o: optim.SGD(p, maximize=True, **o),
    "momentum": lambda p, **o: optim.SGD(p, momentum=0.9, **o),
    "nesterov": lambda p, **o: optim.SGD(p, momentum=0.9, nesterov=True, **o),
    "Adagrad": lambda p, **o: optim.Adagrad(p, **o),
    "RMSprop": lambda p, **o: optim.RMSprop(p, momentum=0.5, **o),
    "Adamax": lambda p, **o: optim.Adamax(p, **o),
    "Adafactor": lambda p, **o: optim.Adafactor(p, **o),
} | ({"Adam decoupled": lambda p, **o: optim.Adam(p, decoupled_weight_decay=True, **o)} if HAS_SWITCH else {})
FORMS = {
    "own": None,
    "decoupled": lambda: td.decoupled(0.05),
    "scheduled": lambda: td.decoupled(0.05, schedule=td.schedules.cosine(1.0, 0.1, 30)),
    "following": lambda: td.decoupled(0.05, schedule=td.schedules.follow_lr()),
    "independent": lambda: td.independent(0.0005),
    "corrected": lambda: td.corrected(0.05),
    "per_step": lambda: td.per_step(0.0005),
    "cautious": lambda: td.cautious(0.05),
    "l1": lambda: td.l1(1e-4),
    "elastic_net": lambda: td.elastic_net(l1=1e-5, l2=0.01),
    "proximal": lambda: td.forms.proximal(0.0005),
    "toward": lambda: td.toward("initial", 0.05),
    "coupled": lambda: td.coupled(0.01),
}
SCHEDULES: dict[str, Any] = {
    "none": lambda o: None,
    "cosine": lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 30),
    "warm-up from 0": lambda o: optim.lr_scheduler.LambdaLR(o, lambda step: min(1.0, step / 10)),
    "one cycle": lambda o: optim.lr_scheduler.OneCycleLR(o, 0.02, total_steps=40, cycle_momentum=False),
    "steps": lambda o: optim.lr_scheduler.StepLR(o, 7, 0.3),
    "by hand": lambda o: None,
}


class Training:
    """A small network, an optimizer, a form of decay and a schedule, drawn from a seed."""

    def __init__(self, seed: int, **fixed: Any) -> None:
        rng = random.Random(seed)
        self.kind, self.form, self.schedule = (rng.choice([*names]) for names in (OPTIMIZERS, FORMS, SCHEDULES))
        self.dtype = rng.choice([torch.float32, torch.float32, torch.float64, torch.bfloat16])
        self.before = rng.random() < 0.5  # the monitor is made before the scheduler
        self.accumulate, self.every, self.by = rng.choice([1, 1, 2]), rng.choice([1, 3]), rng.choice(["role", "tensor"])
        vars(self).update(fixed)
        if self.dtype is torch.bfloat16 and self.form == "own":
            self.form = "decoupled"
        if self.kind == "AdamW fused" and self.dtype is torch.bfloat16:
            self.kind = "AdamW"
        torch.manual_seed(seed)
        decay = FORMS[self.form]
        self.model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 16)).to(self.dtype)
        make, wd = OPTIMIZERS[self.kind], 0.01 if self.form == "own" else 0.0
        plan = td.plan(self.model, wd if decay is None else decay())
        self.optimizer = make(plan.param_groups(self.model), lr=0.01)
        self.handle = None
        if decay is not None:
            self.handle = td.attach(self.optimizer, plan, model=self.model)
        self.scheduler = None if self.before else SCHEDULES[self.schedule](self.optimizer)

    def __str__(self) -> str:
        return f"{self.kind}, {self.form}, {self.schedule}, {self.dtype}, before={self.before}, every {self.every}"

    def monitor(self) -> td.Monitor:
        made = td.Monitor(self.optimizer, model=self.model, every_steps=self.every, by=self.by, strict=True)
        if self.before:
            self.scheduler = SCHEDULES[self.schedule](self.optimizer)
        return made

    def run(self, steps: int, between: Any = None) -> None:
        for step in range(steps):
            self.optimizer.zero_grad()
            for _ in range(self.accumulate):
                x = torch.randn(32, 16).to(self.dtype)
                loss = (self.model(x) - 0.5 * x).float().square().mean()
                (-loss if "maximize" in self.kind else loss).backward()
            self.optimizer.step()
            if self.schedule == "by hand":
                for group in self.optimizer.param_groups:
                    group["lr"] = 0.01 * min(1.0, (step + 2) / 10)
            elif self.scheduler is not None:
                self.scheduler.step()
            if between is not None:
                between(step)


@pytest.fixture(autouse=True)
def time_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of steps this short copies would see some."""
    monkeypatch.setattr(budget, "FREE", sys.maxsize)


def check_healthy(seed: int) -> None:
    training = Training(seed)
    with training.monitor() as monitor:
        training.run(30)
    history = monitor.history
    # Where lr falls and decay does not, or bfloat16 rounds the update away, decay really is what is left.
    may_lead = training.form in ("per_step", "proximal") or training.dtype is torch.bfloat16
    events = [event for event in history.events if event.kind != "dominates" or not may_lead]
    assert events == [], f"{training}: {events[0]}"
    assert len(history.records) >= 10
    for name in history.groups if training.form != "cautious" else ():
        told = history.shrink(name)
        if told.planned is None or told.realized is None or training.dtype is torch.bfloat16:
            continue
        if history.of(name).carried == "followed":
            # Momentum has not brought all of it yet.
            continue
        tolerance = {"rel": 1e-6, "abs": 1e-9} if training.dtype is torch.float64 else {"rel": 2e-3, "abs": 3e-5}
        assert told.realized[-1] == pytest.approx(told.planned[-1], **tolerance), f"{training}: {name}"


@pytest.mark.parametrize("seed", range(24))
def test_a_healthy_training_rings_nothing_and_measures_what_was_planned(seed: int) -> None:
    """Whatever the optimizer, form, dtype and schedule; within a thousandth in float32, and exactly in float64."""
    check_healthy(seed)


@pytest.mark.slow
def test_a_thousand_healthy_trainings_ring_nothing() -> None:
    """The same, longer."""
    for seed in range(24, 1024):
        check_healthy(seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "fault", ["hooks gone", "taken off", "halved by the loop", "too strong", "not finite", "another trains"]
)
def test_a_fault_rings_its_alarm(fault: str, seed: int) -> None:
    """Seeded into the same trainings."""
    rng = random.Random(seed)
    form = rng.choice(["decoupled", "independent", "per_step", "proximal", "corrected"])
    kind = rng.choice(["AdamW", "SGD", "momentum", "NAdam", "SGD maximize"])
    dtype = rng.choice([torch.float32, torch.float64])
    training = Training(seed, form=form, kind=kind, dtype=dtype, schedule="none")
    expected = {"hooks gone": "lost", "taken off": "lost", "halved by the loop": "between steps",
                "too strong": "dominates", "not finite": "not finite", "another trains": "no steps"}[fault]  # fmt: skip
    if fault == "hooks gone":
        training.handle.remove()
        training.handle = td.attach(training.optimizer, td.plan(training.model, td.decoupled(5.0)), via="hook")
    if fault == "too strong":
        training.handle.update(td.plan(training.model, td.per_step(0.3)))

    def happens(step: int) -> None:
        if step == 8 and fault == "hooks gone":
            for hook in training.handle._hooks:
                hook.remove()
        if step == 8 and fault == "taken off":
            training.handle.remove()
        if step >= 8 and fault == "halved by the loop":
            for param in training.model.parameters():
                param.data.mul_(0.999)
        if step == 8 and fault == "not finite":
            training.model[0].weight.data[0, 0] = float("inf")

    with training.monitor() as monitor:
        training.run(0 if fault == "another trains" else 16, happens)
    kinds = {event.kind for event in monitor.history.events}
    assert expected in kinds, f"{training}: {kinds}"
