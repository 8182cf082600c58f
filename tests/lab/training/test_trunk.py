"""Forks of a task: what all values share is trained once, and what goes on is as if it had been one run."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from sweeping import task
from torchdecay.errors import TaskError
from torchdecay.lab.engines.engine import Engine
from torchdecay.lab.sweeps.search import Search
from torchdecay.lab.sweeps.sweep import sweep
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.train import train
from torchdecay.lab.training.trunk import forked


def adam(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=0.1)


def scheduled(**changes: Any) -> Task:
    halving = torch.optim.lr_scheduler.StepLR
    return task(optimizer=adam, scheduler=lambda one: halving(one, 6, 0.5), batch_size=8, **changes)


def run(one: Task, decay: str, **setting: Any) -> Any:
    return dataclasses.replace(train(one, decay, with_line=False, monitor=False, **setting), seconds=0.0)


@pytest.mark.parametrize("setting", [{"seed": 0}, {"seed": 1, "lr_scale": 2.0}])
def test_without_decay_a_fork_is_the_run_itself_to_the_bit(setting: dict[str, Any]) -> None:
    """Moments, schedule, order of rows and random numbers go on; with decay all before the fork is shared."""
    whole = run(scheduled(), "none", **setting)
    fork = forked(scheduled(), 9, (setting["seed"],), (setting.get("lr_scale", 1.0),))
    assert run(fork, "none", **setting) == whole
    decayed = run(fork, "decoupled:0.5", **setting)
    shared = whole.steps.index(10) + 1
    assert decayed.steps == whole.steps and decayed.test_loss[:shared] == whole.test_loss[:shared]
    assert decayed.weight_norm[-1] < whole.weight_norm[-1]
    alone = run(scheduled(), "decoupled:0.5", **setting)
    assert alone.weight_norm[-1] < decayed.weight_norm[-1]


@pytest.mark.parametrize(
    "decay",
    ["coupled:0.1", "cautious:0.1", "adaptive:0.1", "constrained:kappa_initial=0.5", "toward:initial,0.1", "l1:0.1"],
)
def test_every_form_can_go_on_from_it(decay: str) -> None:
    """Each has its own groups, hooks and counters, which the trunk has not."""
    fork = forked(scheduled(), 4, (0,), (1.0,))
    assert run(fork, decay).steps[-1] == 18


def test_a_sweep_forks_and_every_engine_that_can_agrees() -> None:
    """What is said, and what the steps cost."""
    steps: list[int] = []
    options: dict[str, Any] = {"values": [0.1, 1.0], "seeds": 2, "fork_at": 13}
    here = sweep(scheduled(), engine="serial", on_progress=lambda one: steps.append(one.steps_done), **options)
    assert any("share the training without decay up to step 13" in note for note in here.notes)
    assert len(here.runs) == 6 and {run.steps[-1] for run in here.runs} == {18}
    assert steps[-1] == 6 * 3
    whole = sweep(scheduled(), engine="serial", values=[0.1, 1.0], seeds=2)
    for bare, same in zip(here.of("none"), whole.of("none"), strict=True):
        assert bare.test_loss == same.test_loss
    with pytest.raises(TaskError, match="can't be trained as one stacked model: its runs go on"):
        sweep(scheduled(), engine=Engine("stacked"), **options)


def test_forks_that_can_not_be_are_refused() -> None:
    """Outside of the run; beside halving; of what is no task."""
    for step in (0, 18, 500, -1):
        with pytest.raises(TaskError, match="fork_at"):
            sweep(scheduled(), values=[1.0], fork_at=step)
    with pytest.raises(TaskError, match="halving"):
        sweep(scheduled(num_steps=60), search=Search(0.1, 10, kind="halving"), fork_at=4)
    with pytest.raises(TaskError, match="--fork FILE"):
        sweep(lambda decay, *, seed, lr_scale, report: 1.0, values=[1.0], fork_at=4)
