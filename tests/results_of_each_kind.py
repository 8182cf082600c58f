"""One small result of each kind that a file may be."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import torchdecay as td
from reports import sweep_samples
from torchdecay.integrations.lint.lint import lint
from torchdecay.lab.example import worked_example
from torchdecay.lab.sweeps.ladder import Ladder


def every_result() -> dict[str, Any]:
    """One small result of each kind that a file may be."""
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    plan, optimizer = td.plan(model, td.decoupled(0.1)), torch.optim.AdamW(td.param_groups(model, 0.1), lr=0.01)
    with td.Monitor(optimizer, every_steps=1) as monitor:
        model(torch.randn(2, 4)).square().mean().backward()
        optimizer.step()
    run = td.Run(steps=10, lr=0.01, batch_size=2, num_samples=4)
    return {
        "plan": plan,
        "audit": td.audit(optimizer, model=model),
        "inspection": td.inspect(optimizer),
        "verification": td.verify(optimizer),
        "forecast": td.forecast(optimizer, run=run),
        "history": monitor.history,
        "alarms": monitor.history.findings,
        "lint": lint([__file__]),
        "ladder": Ladder(sizes=(1.0, 100.0), sweeps=(sweep_samples.sweep(), sweep_samples.sweep())),
        "rescaled": td.rescale(0.1, before=run, after=td.Run(steps=20, lr=0.01, batch_size=2, num_samples=4)),
        "suggestion": td.suggest(None, run=run),
        "example": worked_example(),
    }
