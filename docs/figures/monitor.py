"""Draw the picture of docs/monitor.md: `python docs/figures/monitor.py`.

A small model under AdamW for 1,000 steps; at step 600 a checkpoint without decay is loaded over the optimizer.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import torchdecay as td

FOLDER = Path(__file__).parents[1] / "assets"
STEPS, LOADED = 1000, 600


def history() -> td.History:
    """What the picture shows."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(td.param_groups(model, 0.5), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    x, y = torch.randn(500, 32), torch.randint(0, 10, (500,))
    with td.Monitor(optimizer, every_steps=20) as monitor:
        for step in range(STEPS):
            if step == LOADED:
                saved = optimizer.state_dict()
                for group in saved["param_groups"]:
                    group["weight_decay"] = 0.0
                optimizer.load_state_dict(saved)
            rows = torch.randint(0, 500, (64,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            scheduler.step()
    return monitor.history


if __name__ == "__main__":
    seen = history()
    td.figure(seen, FOLDER / "monitor.svg", overwrite=True)
    td.figure(seen, FOLDER / "monitor-dark.svg", dark=True, overwrite=True)
    print(seen)
