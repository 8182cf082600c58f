"""Where a sweep looks when nobody said where: where decay acts within the run, and leaves something of a weight."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sweeping import task
from torchdecay.lab.sweeps.meaning import meaning_of
from torchdecay.lab.sweeps.ranges import with_range
from torchdecay.lab.sweeps.search import Candidate, Search
from torchdecay.lab.sweeps.sweep import sweep
from torchdecay.lab.sweeps.trials import TrialMaker, as_form
from torchdecay.lab.tasks.task import Task, model_of


def adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=1e-3)


def warmup(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.9, total_steps=2000)


def found(asked: Task, form: str = "decoupled", **search: Any) -> Search:
    model = model_of(asked, 0)
    return with_range(Search(**search), TrialMaker.make(asked, model, as_form(form), None), asked, model)


@pytest.mark.parametrize(
    ("changes", "form", "ends"),
    [
        # 1 % in 1,000 steps of 1e-3 is λ = .01; forgotten in 10 of them is λ = 100.
        ({"num_steps": 1000, "optimizer": adamw}, "decoupled", (0.01, 100.0)),
        ({"num_steps": 100_000, "optimizer": adamw}, "decoupled", (1e-4, 1.0)),
        # Above 500 half a weight goes in a step.
        ({"num_steps": 30, "optimizer": adamw}, "decoupled", (1.0, 100.0)),
        # What a threshold takes is no share of a weight: the learning rate stands for it.
        ({"num_steps": 1000, "optimizer": adamw}, "l1", (0.01, 100.0)),
        ({"num_steps": 1000}, "per_step", (1e-5, 0.1)),
    ],
)
def test_the_range_is_that_of_the_tasks_time_scale(
    changes: dict[str, Any], form: str, ends: tuple[float, float]
) -> None:
    """From 1 % of a weight in the run to a hundredth of the run per time scale."""
    assert found(task(**changes), form).ends == ends


@pytest.mark.parametrize("changes", [{"num_steps": 2}, {"num_steps": 2000, "scheduler": warmup}])
@pytest.mark.parametrize("scales", [(1.0,), (0.1, 10.0)])
def test_no_end_takes_whole_weights(changes: dict[str, Any], scales: tuple[float, ...]) -> None:
    """Below 1 of a weight in every step, at the schedule's peak and the largest learning rate; a decade at least."""
    asked = task(**changes)
    model = model_of(asked, 0)
    maker = TrialMaker.make(asked, model, as_form("decoupled"), None)
    low, high = with_range(Search(lr_scales=scales), maker, asked, model).ends
    contender = maker.contender(Candidate((high,), max(scales)))
    most = meaning_of(asked, model, contender, lr_scale=max(scales)).max_fraction
    assert most is not None and most <= 0.5 and high >= 10 * low * (1 - 1e-9)


def test_an_end_that_is_given_stays() -> None:
    """The other one comes from the task, two decades away at least."""
    assert found(task(num_steps=1000, optimizer=adamw), low=3.0).ends == (3.0, 300.0)
    assert found(task(num_steps=1000, optimizer=adamw), high=30.0).ends == (0.01, 30.0)
    assert found(task(num_steps=1000, optimizer=adamw), low=2.0, high=3.0).ends == (2.0, 3.0)


@pytest.mark.long
def test_both_ends_are_tried() -> None:
    """Those that were asked for, and those of the task."""
    options: Any = {"seeds": 1, "engine": "serial"}
    tried = [{one.value for one in sweep(task(), search=search, **options).points} for search in (
        Search(0.3, 4, points=4), Search(points=4), Search(0.3, 4, points=4, kind="halving"))]  # fmt: skip
    assert {0.3, 4.0} <= tried[0] and {0.3, 4.0} <= tried[2]
    low, high = found(task()).ends
    assert {low, high} <= tried[1] and math.log10(high / low) == pytest.approx(2)
