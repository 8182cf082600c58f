"""A training that was saved between two steps goes on to the bit as if nothing had happened."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from sweeping import task
from torchdecay.lab.training.running import Running
from torchdecay.lab.training.train import train

Saved = dict[int, bytes]


def noisy() -> nn.Module:
    """Batch norm and dropout: buffers and random numbers are part of where a training is."""
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 1))


def adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=0.01)


def keeper(saved: Saved) -> Callable[[Running], None]:
    def keep(running: Running) -> None:
        file = io.BytesIO()
        torch.save(running.state_dict(), file)
        saved[running.record.steps[-1]] = file.getvalue()

    return keep


def loaded(data: bytes) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True)
    return state


CASES = {
    "plain": ("none", {}),
    "by hand, full batch": ("by_hand:0.1", {"batch_size": None}),
    "cycle": ("decoupled:1", {"scheduler": lambda one: lr_scheduler.OneCycleLR(one, 0.1, total_steps=50)}),
    "milestones": ("coupled:0.1", {"scheduler": lambda one: lr_scheduler.MultiStepLR(one, [5, 9])}),
    "function": ("cautious:1", {"scheduler": lambda one: lr_scheduler.LambdaLR(one, lambda step: 1 / (1 + step))}),
    "average": ("toward:reference=initial,wd=1", {}),
    "own state": ("adaptive:0.01", {}),
}


@pytest.mark.parametrize("case", list(CASES))
def test_it_goes_on_to_the_bit_from_every_point(case: str) -> None:
    """Weights, moments, the decay's own state, batch norm, dropout, learning rate, row order and curves come back."""
    decay, changes = CASES[case]
    odd = task(**{"model": noisy, "optimizer": adamw, "num_steps": 20, "batch_size": 7, "eval_every": 3, **changes})
    saved: Saved = {}
    whole = train(odd, decay, seed=1, with_line=False, monitor=False, on_point=keeper(saved))
    assert list(saved) == [0, 3, 6, 9, 12, 15, 18]
    for data in saved.values():
        again = train(odd, decay, seed=1, with_line=False, monitor=False, resume=loaded(data))
        assert dataclasses.replace(again, seconds=0.0) == dataclasses.replace(whole, seconds=0.0)


def test_each_part_of_the_state_matters() -> None:
    """The check above can fail: from another step's weights, moments or random numbers other curves come out."""
    odd = task(model=noisy, optimizer=adamw, batch_size=7)
    saved: Saved = {}
    whole = train(odd, "decoupled:1", with_line=False, monitor=False, on_point=keeper(saved))
    for part in ("model", "optimizer", "random", "step"):
        state = loaded(saved[8]) | {part: loaded(saved[4])[part]}
        again = train(odd, "decoupled:1", with_line=False, monitor=False, resume=state)
        assert again.train_loss[:5] == whole.train_loss[:5] and again.train_loss != whole.train_loss[: len(again.steps)]


def test_curves_so_far_and_time_of_both_tries() -> None:
    """What was measured is there at any point, and the first try's seconds count."""
    seen: list[Running] = []
    saved: Saved = {}
    keep = keeper(saved)

    def watch(running: Running) -> None:
        seen.append(dataclasses.replace(running, record=dataclasses.replace(running.record)))
        assert running.run.steps == tuple(range(0, running.step, 2)) and len(running.run.test_loss) == len(seen)
        keep(running)

    train(task(), "decoupled:1", with_line=False, monitor=False, on_point=watch)
    state = loaded(saved[8]) | {"seconds": 1000.0}
    assert train(task(), "decoupled:1", with_line=False, monitor=False, resume=state).seconds > 1000.0
