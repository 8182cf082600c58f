"""What a forecast says of a training under way, and of a very long one, is what a weight without gradient does."""

from __future__ import annotations

import math
import random
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn, optim

import torchdecay as td

pytestmark = pytest.mark.long


def draw(seed: int) -> tuple[optim.Optimizer, optim.lr_scheduler.LRScheduler | None, int, int, nn.Parameter]:
    """SGD of any kind on a weight in double precision, its schedule, and how many steps come before and after."""
    rng = random.Random(seed)
    before, after = rng.randint(1, 30), rng.randint(1, 60)
    nesterov = rng.random() < 0.3
    weight = nn.Parameter(torch.randn(5, dtype=torch.float64))
    optimizer = optim.SGD(
        [weight],
        lr=10 ** rng.uniform(-3, -1),
        momentum=rng.choice([0.0, 0.5, 0.9, 0.99]) or (0.8 if nesterov else 0.0),
        dampening=0.0 if nesterov else rng.choice([0.0, 0.3]),
        nesterov=nesterov,
        weight_decay=10 ** rng.uniform(-3, -0.5),
    )
    make = rng.choice([
        lambda o: None,
        lambda o: optim.lr_scheduler.CosineAnnealingLR(o, before + after),
        lambda o: optim.lr_scheduler.LambdaLR(o, lambda step: (step + 1) / (before + after)),
        lambda o: optim.lr_scheduler.OneCycleLR(o, 0.2, total_steps=before + after, cycle_momentum=rng.random() < 0.5),
    ])  # fmt: skip
    return optimizer, make(optimizer), before, after, weight


def step(optimizer: optim.Optimizer, scheduler: optim.lr_scheduler.LRScheduler | None, weight: nn.Parameter) -> None:
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    if scheduler is not None:
        scheduler.step()


@pytest.mark.parametrize("seed", [*range(30), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(30, 600))])
def test_of_a_training_under_way_exact_is_exact_and_at_most_is_a_bound(seed: int) -> None:
    """Buffers of momentum carry decay already: what they add is bounded, or nothing is said."""
    optimizer, scheduler, before, after, weight = draw(seed)
    for _ in range(before):
        step(optimizer, scheduler, weight)
    start = weight.detach().clone()
    run = td.Run(steps=after if scheduler is None else before + after, lr_schedule=scheduler)
    (told,) = td.forecast(optimizer, run=run)
    assert told.num_steps == after
    for _ in range(after):
        step(optimizer, scheduler, weight)
    left = float((weight.detach() / start).mean())
    if told.prediction == "exact":
        assert told.total_shrink == pytest.approx(1 - left, rel=1e-9, abs=1e-12)
    elif told.prediction == "at most":
        assert told.total_shrink is not None and 1 - left <= told.total_shrink * (1 + 1e-9) + 1e-12
        assert told.total_shrink <= 1.0


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "schedule"), [("AdamW", None), ("SGD", "cosine"), ("AdamW", lambda step: 1.0 if step < 10**6 else 0.5)]
)
def test_a_run_of_any_length_takes_little_time_and_memory(kind: str, schedule: object) -> None:
    """Of very many steps a part is told, and adds up to what all of them do."""
    weight = nn.Parameter(torch.zeros(2, 2))
    options = {"momentum": 0.9} if kind == "SGD" else {}
    optimizer = getattr(optim, kind)([weight], lr=1e-3, weight_decay=1e-9, **options)
    steps, fraction = 10**9, 1e-11 if kind == "SGD" else 1e-12
    tracemalloc.start()
    (told,) = td.forecast(optimizer, run=td.Run(steps=steps, lr_schedule=schedule))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    share = {None: 1.0, "cosine": 0.5, "linear": 0.5}.get(schedule, (10**6 + 0.5 * (steps - 10**6)) / steps)  # type: ignore[call-overload]
    assert told.total_shrink == pytest.approx(-math.expm1(-share * fraction * steps), rel=2e-5)
    assert told.retention_at(steps // 2) is not None and "a part" in [one.kind for one in told.remarks]
    assert told.curve is not None and told.curve.steps[-1] == steps == told.num_steps
    assert peak < 100e6
    assert td.forecast(optimizer, run=td.Run(steps=10**12)).num_steps == 10**12


def test_a_scheduler_of_torch_is_not_run_for_hours() -> None:
    """It can only be run step by step."""
    optimizer = optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)
    run = td.Run(steps=10**12, lr_schedule=optim.lr_scheduler.StepLR(optimizer, 10))
    with pytest.raises(td.UnitError, match="would have to be run for 1,000,000,000,000 steps"):
        td.forecast(optimizer, run=run)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
def test_one_answer_to_what_momentum_makes_of_a_decay(momentum: float, nesterov: bool) -> None:
    """inspect, forecast and a monitor's plan say one fraction per step, and weights take it."""
    weight = nn.Parameter(torch.ones(3, dtype=torch.float64))
    nesterov = nesterov and momentum > 0
    optimizer = optim.SGD([weight], lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=0.02)
    (told,) = td.forecast(optimizer, run=td.Run(steps=400))
    with td.Monitor(optimizer, every_steps=400) as monitor:
        for _ in range(400):
            before = weight.detach().clone()
            step(optimizer, None, weight)
    lost = float(1 - (weight.detach() / before).mean())
    assert told.fraction == pytest.approx(lost, rel=1e-9)
    assert td.inspect(optimizer)[0].pull == pytest.approx((told.fraction,) * 2, rel=1e-9)
    (group,) = monitor.history.groups
    assert monitor.history.curve(group, "planned_shrink")[1][-1] == pytest.approx(told.fraction, rel=1e-6)
    assert told.total_shrink == pytest.approx(1 - float(weight.detach().mean()), rel=1e-9)


def test_what_momentum_makes_of_a_decay_is_what_a_weight_comes_to_lose() -> None:
    """Also far from first order, where weights swing, and where each step flips their sign."""
    kinds: list[dict[str, Any]] = [{}, {"dampening": 0.3}, {"nesterov": True}]
    # In units of the pull at which weights begin to swing, without Nesterov and dampening; the last flips at each step.
    sizes = (0.01, 0.1, 0.6, 2.0, 30.0, math.inf)
    groups = []
    for momentum in (0.3, 0.6, 0.9):
        for kind in kinds:
            critical = (1 - momentum**0.5) ** 2
            most = 1.02 * 2 * (1 + momentum) / (1 + 2 * momentum if "nesterov" in kind else 1)
            for size in sizes:
                pull = min(critical * size, most)
                weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
                groups.append({"params": [weight], "momentum": momentum, "weight_decay": pull / 0.25} | kind)
    optimizer = optim.SGD(groups, lr=0.25)
    forecast, inspected = td.forecast(optimizer, run=td.Run(steps=600)), td.inspect(optimizer)
    course = []
    for _ in range(600):
        for group in groups:
            group["params"][0].grad = torch.zeros(1, dtype=torch.float64)
        optimizer.step()
        course.append([float(group["params"][0].detach()) for group in groups])
    kinds_seen = set()
    for told, read, weights in zip(forecast, inspected, zip(*course, strict=True), strict=True):
        a, b, c, d = weights[-4:]
        swings = any(later * earlier < 0 for earlier, later in pairwise(weights))
        lost = 1 - d / c
        if d / c != pytest.approx(c / b, rel=1e-9):
            # Of two roots of one size w·w″ − w′² goes as their product.
            lost = 1 - math.sqrt((c / b) ** 2 * (b / c * d / c - 1) / (a / b * c / b - 1))
        assert told.fraction == pytest.approx(lost, rel=1e-6), read
        assert read.pull == pytest.approx((told.fraction,) * 2, rel=1e-12)
        (remark,) = [one.kind for one in told.remarks if one.kind in ("swings", "diverges")] or [""]
        assert read.swings == swings == (remark != "")
        assert (remark == "diverges") == (abs(d) > 1)
        kinds_seen.add((swings, remark, d / c < 0))
    assert len(kinds_seen) >= 4
