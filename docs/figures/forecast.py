"""Draw the picture of docs/forecast.md: `python docs/figures/forecast.py`.

One model whose four layers decay by 0.1, 1, 10 and 30, under AdamW for 1,000 steps.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import torchdecay as td

FOLDER = Path(__file__).parents[1] / "assets"
STRENGTHS = {"first": 0.1, "second": 1.0, "third": 10.0, "fourth": 30.0}


def forecast() -> td.Forecast:
    """What the picture shows."""
    model = nn.ModuleDict({name: nn.Linear(64, 64, bias=False) for name in STRENGTHS})
    rules = [td.rule(f"{name}.weight", td.decoupled(wd)) for name, wd in STRENGTHS.items()]
    run = td.Run(steps=1000, lr=1e-3, lr_schedule="cosine", warmup_steps=100)
    return td.forecast(td.plan(model, None, rules=rules), optimizer=torch.optim.AdamW, run=run)


if __name__ == "__main__":
    td.figure(forecast(), FOLDER / "forecast.svg", overwrite=True)
    td.figure(forecast(), FOLDER / "forecast-dark.svg", dark=True, overwrite=True)
