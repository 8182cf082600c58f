"""Accelerate: a plan on the prepared optimizer, stopped in the middle, and gone on from its checkpoint.

Run it: python examples/integrations/accelerate_loop.py
"""

from __future__ import annotations

import tempfile

import torch
from accelerate import Accelerator
from torch import nn

import torchdecay as td

DECAY = td.cautious(0.5, schedule=td.schedules.linear(1.0, 0.0, 64))


def begin(accelerator: Accelerator) -> tuple[nn.Module, torch.optim.Optimizer, td.Handle]:
    model = nn.Sequential(nn.Linear(16, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 4))
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-2))
    return model, optimizer, td.attach(optimizer, DECAY, model=model)


def train(accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        inputs, labels = torch.randn(32, 16), torch.randint(0, 4, (32,))
        optimizer.zero_grad()
        accelerator.backward(nn.functional.cross_entropy(model(inputs), labels))
        optimizer.step()


def main() -> td.History:
    """Train in two parts, and return what decay did in the second."""
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    with tempfile.TemporaryDirectory() as folder:
        model, optimizer, _ = begin(accelerator)
        train(accelerator, model, optimizer, 32)
        accelerator.save_state(folder)
        accelerator.free_memory()
        model, optimizer, handle = begin(accelerator)
        accelerator.load_state(folder)
    print("goes on after step", handle.steps(0))
    with td.Monitor(optimizer, model=model, every_steps=8) as monitor:
        train(accelerator, model, optimizer, 32)
    return monitor.history


if __name__ == "__main__":
    print(main())
