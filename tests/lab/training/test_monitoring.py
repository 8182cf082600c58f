"""What decay was to do and what it did, beside a training: both known, either unknown, and decay that gets lost."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, ReduceLROnPlateau

from torchdecay.apply.handle import handle_of
from torchdecay.lab.comparisons.comparison import Comparison
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.contenders import ByHand
from torchdecay.lab.training.planned_and_measured import GroupCourse, PlannedAndMeasured
from torchdecay.lab.training.results import TrainingRun
from torchdecay.lab.training.train import train
from torchdecay.plans import policies
from torchdecay.plans.rules import rule

pytestmark = pytest.mark.long

HALF = 100


def adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=0.01)


def losing(task: Task) -> TrainingRun:
    """A seeded fault: half-way the plan is taken off the optimizer, as when hooks are lost to a copy."""
    kept: list[torch.optim.Optimizer] = []

    def optimizer(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        kept.append(adamw(groups))
        return kept[-1]

    def forget(step: int) -> None:
        handle = handle_of(kept[-1])
        if step == HALF and handle is not None:
            handle.remove()

    return train(dataclasses.replace(task, optimizer=optimizer), "decoupled:1", on_step=forget)


@pytest.fixture
def long(small: Task) -> Task:
    """Two hundred steps of AdamW at learning rate 0.01."""
    return dataclasses.replace(small, num_steps=2 * HALF, optimizer=adamw, eval_every=50)


def only(run: TrainingRun) -> GroupCourse:
    assert run.planned_and_measured is not None
    (group,) = run.planned_and_measured.groups
    return group


def test_forecast_and_measurement_agree_where_decay_is_at_work(long: Task) -> None:
    """The forecast is the closed product; what was measured in the training is the same to float32 rounding."""
    run = train(long, "decoupled:1")
    group = only(run)
    assert group.planned is not None and group.realized is not None
    assert [round(one, 12) for one in group.planned] == [round(-step * math.log1p(-0.01), 12) for step in group.steps]
    assert group.realized == pytest.approx(group.planned, rel=1e-4)
    assert group.steps[0] == 1 and group.steps[-1] == 2 * HALF and len(group.steps) == 26
    assert len(group.weight_norm) == len(group.steps)
    assert (group.name, group.prediction, group.timescale) == ("weight", "exact", 100.0)
    assert run.planned_and_measured is not None
    assert (run.planned_and_measured.alarms, run.planned_and_measured.note) == ((), "")


def test_decay_that_is_lost_midway_parts_from_its_forecast(long: Task) -> None:
    """The seeded fault: planned goes on, realized stays where it was, and an alarm says at which step."""
    run = losing(long)
    group = only(run)
    assert group.planned_shrink == pytest.approx(1 - 0.99**200)
    assert group.realized_shrink == pytest.approx(1 - 0.99**104, abs=0.02)  # a straight line between two records
    assert run.planned_and_measured is not None
    assert [(one.kind, one.step, one.group) for one in run.planned_and_measured.alarms] == [("lost", 104, "weight")]


@pytest.mark.long
def test_looking_on_changes_no_number_of_the_training(long: Task) -> None:
    """With dropout, hooks and a scheduler: the run is the same bit for bit as one that nobody watches."""
    task = dataclasses.replace(
        long,
        model=lambda: nn.Sequential(nn.Linear(8, 6), nn.Dropout(0.5), nn.Linear(6, 1), nn.Sigmoid()),
        scheduler=lambda optimizer: CosineAnnealingLR(optimizer, 2 * HALF),
    )
    for decay in ("decoupled:1", "l1:0.01", "cautious:1"):
        watched, alone = train(task, decay), train(task, decay, monitor=False)
        assert alone.planned_and_measured is None
        assert dataclasses.replace(watched, planned_and_measured=None, seconds=0.0) == dataclasses.replace(
            alone, seconds=0.0
        )


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda optimizer: CosineAnnealingLR(optimizer, 200),
        lambda optimizer: OneCycleLR(optimizer, 0.01, total_steps=200),
        lambda optimizer: LambdaLR(optimizer, lambda step: 1.0 if step < 100 else 0.1),
    ],
    ids=["cosine", "one cycle", "lambda"],
)
def test_the_forecast_follows_the_tasks_own_scheduler(long: Task, scheduler: Any) -> None:
    """The real scheduler is run beforehand, and its training is what was measured."""
    group = only(train(dataclasses.replace(long, scheduler=scheduler), "decoupled:1"))
    assert group.planned is not None and group.realized is not None
    assert group.planned[-1] < 0.9 * 2.0
    # Between two records the measured fraction is taken as a straight line.
    assert group.realized[-1] == pytest.approx(group.planned[-1], rel=0.03)


def test_a_coupled_decay_that_nobody_can_forecast_is_measured(long: Task) -> None:
    """A pull through Adam's gradient comes to what copies of the optimizer show that it does."""
    group = only(train(long, "coupled:0.1"))
    assert (group.prediction, group.planned, group.half_life) == ("unknown", None, None)
    assert group.realized is not None and group.realized[-1] > 1
    assert group.measured.startswith("the difference of two steps")


@pytest.mark.parametrize("decay", ["penalized:0.1", ByHand(0.1)], ids=str)
def test_what_nobody_can_tell_is_unknown(long: Task, decay: Any) -> None:
    """What comes with the loss is neither forecast nor measured; what is known, the norm, is there."""
    group = only(train(long, decay))
    assert (group.prediction, group.planned, group.realized, group.half_life) == ("unknown", None, None, None)
    assert group.why == "AdamW divides it by the size of the gradients"
    assert group.measured.startswith("not measured: ")
    assert len(group.weight_norm) == 26


def test_by_hand_on_sgd_has_a_forecast(small: Task) -> None:
    """grad += wd·w under plain SGD shrinks as told; only the measurement is beyond reach."""
    group = only(train(small, ByHand(0.5)))
    assert group.planned_shrink == pytest.approx(1 - 0.95**12)
    assert group.realized is None and "by hand" in group.measured


def test_a_form_without_a_forecast_is_still_measured(long: Task) -> None:
    """L1 takes no fixed part of a weight, but its pass can be seen."""
    group = only(train(long, "l1:0.01"))
    assert group.prediction == "unknown" and group.planned is None
    assert group.realized is not None and group.realized[-1] > 0


def test_a_pull_toward_a_reference_is_not_compared_with_one_toward_zero(long: Task) -> None:
    """The forecast is of the distance to the reference; what it takes off the weights is not that."""
    group = only(train(long, "toward:initial,1"))
    assert group.planned_shrink == pytest.approx(1 - 0.99**200)
    assert group.realized is None and group.measured.startswith("not compared")


def test_a_run_without_decay_has_nothing_to_tell(long: Task) -> None:
    """No group, no alarm, no note."""
    run = train(long, None)
    assert run.planned_and_measured == PlannedAndMeasured()


def test_weights_that_decay_differently_are_told_apart(long: Task) -> None:
    """Two values for two layers of one role: two courses, each with its own numbers."""
    task = dataclasses.replace(long, rules=[rule("0.*", 1.0), *policies.torch])
    acting = train(task, 0.5).planned_and_measured
    assert acting is not None
    assert [(one.name, round(one.planned_shrink or 0, 3)) for one in acting.groups] == [
        ("weight, bias 1", 0.866),
        ("weight, bias 2", 0.633),
    ]
    assert all(one.realized_shrink == pytest.approx(one.planned_shrink, rel=1e-3) for one in acting.groups)


def test_a_schedule_that_nobody_can_foretell_is_unknown_and_measured(long: Task) -> None:
    """ReduceLROnPlateau depends on a metric; the decay that came of it is measured all the same."""

    class Steady(ReduceLROnPlateau):
        def step(self, metrics: Any = 0.0, epoch: Any = None) -> None:  # type: ignore[override]
            super().step(1.0)

    run = train(dataclasses.replace(long, scheduler=lambda optimizer: Steady(optimizer)), "decoupled:1")
    group = only(run)
    assert (group.prediction, group.planned) == ("unknown", None)
    assert group.realized is not None


def test_a_forecast_that_fails_costs_no_training(long: Task) -> None:
    """A scheduler that no copy can be made of: the run is there, and a note says why it was not forecast."""

    class Stubborn(LambdaLR):
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("not to be copied")

    task = dataclasses.replace(long, scheduler=lambda optimizer: Stubborn(optimizer, lambda step: 1.0))
    run = train(task, "decoupled:1")
    assert run.planned_and_measured is not None and run.planned_and_measured.groups == ()
    assert "No forecast: " in run.planned_and_measured.note and "not to be copied" in run.planned_and_measured.note
    assert run.steps[-1] == 2 * HALF


def test_hooks_are_gone_when_a_training_fails(long: Task) -> None:
    """Whoever keeps the optimizer of a failed run has no monitor on it."""
    kept: list[torch.optim.Optimizer] = []

    def optimizer(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        kept.append(adamw(groups))
        return kept[-1]

    def stop(step: int) -> None:
        if step:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        train(dataclasses.replace(long, optimizer=optimizer), "decoupled:1", on_step=stop)
    names = [getattr(hook, "__qualname__", "") for hook in kept[0]._optimizer_step_pre_hooks.values()]
    assert [name for name in names if name.startswith("Watch")] == []


def test_json_keeps_it_and_reads_files_without_it(long: Task) -> None:
    """Courses, alarms and notes come back equal; a file of an earlier version, which lacks them, still loads."""
    runs = (losing(long), train(long, "l1:0.01"), train(long, None))
    made = Comparison(task="t", title="t", step_name="step", labels=tuple(run.label for run in runs), runs=runs)
    assert Comparison.from_json(made.to_json()) == made
    data = json.loads(made.to_json())
    for run in data["runs"]:
        del run["planned_and_measured"]
    before = Comparison.from_json(json.dumps(data))
    assert [run.planned_and_measured for run in before.runs] == [None] * 3
