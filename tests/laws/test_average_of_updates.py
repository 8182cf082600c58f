"""Weights under decoupled decay are an exponential average of their updates, and of their start."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn, optim

import torchdecay as td

STEPS = 60
OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], optim.Optimizer]] = {
    "AdamW": lambda params: optim.AdamW(params, lr=0.02, weight_decay=0.0),
    "SGD": lambda params: optim.SGD(params, lr=0.05, momentum=0.9),
    "RMSprop": lambda params: optim.RMSprop(params, lr=0.01),
}
DECAYS = {
    "decoupled": td.decoupled(1.5),
    "independent": td.independent(0.03),
    "per_step": td.per_step(0.02, schedule=td.schedules.cosine(1, 0.1, STEPS)),
}


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_are_past_updates_and_the_remembered_start(name: str, decay: str) -> None:
    """w_T = r(T)·w₀ − Σ r(T)/r(t+1)·u_t with the forecast's own retention r, to 1e-12 in float64."""
    torch.manual_seed(0)
    model = nn.Linear(6, 5, bias=False).double()
    weight = model.weight
    optimizer = OPTIMIZERS[name]([weight])
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    handle = td.attach(optimizer, td.plan(model, DECAYS[decay], rules=()), model=model)
    (said,) = td.forecast(optimizer, run=td.Run(steps=STEPS, lr_schedule=scheduler))
    logs = [said.log_retention_at(step) for step in range(STEPS + 1)]
    assert None not in logs
    start, updates = weight.detach().clone(), []
    for step in range(STEPS):
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        optimizer.zero_grad()
        (model(x).square().mean() + model(x).sum()).backward()
        before = weight.detach().clone()
        optimizer.step()
        # What the step did beside the decay.
        updates.append(math.exp(logs[step + 1] - logs[step]) * before - weight.detach())  # type: ignore[operator]
        scheduler.step()
    handle.remove()
    rebuilt = math.exp(logs[-1]) * start  # type: ignore[arg-type]
    for step, update in enumerate(updates):
        rebuilt = rebuilt - math.exp(logs[-1] - logs[step + 1]) * update  # type: ignore[operator]
    assert float((rebuilt - weight.detach()).abs().max()) < 1e-12
    # The updates are those of the same optimizer, and not made up to fit: without decay it moves by as much.
    assert max(float(update.abs().max()) for update in updates) > 1e-3


def test_the_weights_of_the_average_sum_to_what_was_forgotten() -> None:
    """At a constant pace f the update of k steps ago counts (1 − f)^k; with f times the start's share they make 1."""
    model = nn.Linear(2, 2, bias=False).double()
    optimizer = optim.AdamW(model.parameters(), lr=0.01, weight_decay=2.0)
    (said,) = td.forecast(optimizer, run=td.Run(steps=STEPS))
    shares = [said.retention_at(step) for step in range(STEPS)]
    assert said.fraction is not None and said.total_shrink is not None
    assert said.fraction * sum(shares) == pytest.approx(said.total_shrink, rel=1e-12)  # type: ignore[arg-type]
    assert said.retention_at(round(said.timescale or 0)) == pytest.approx(1 / math.e, rel=0.02)
