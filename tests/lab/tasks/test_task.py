"""Task and Data refuse what could not be trained, and measure a model as a whole."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from torchdecay.errors import TaskError
from torchdecay.lab.tasks import task as task_module
from torchdecay.lab.tasks.task import Data, Task, evaluate

X, Y = torch.randn(6, 2), torch.zeros(6)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"train": (X, Y), "test": (X, Y[:3])}, r"test has x of shape \(6, 2\) and y of shape \(3,\)"),
        ({"train": (X[:0], Y[:0]), "test": (X, Y)}, "train has no rows"),
        ({"train": X, "test": (X, Y)}, "train is of type Tensor"),
        ({"train": (X, Y), "test": (X.numpy(), Y)}, "test is of type tuple"),
        ({"train": (X, Y), "test": (X, Y), "validation": (X,)}, "validation is of type tuple"),
        ({"train": (X, Y), "test": (X, torch.tensor(1.0))}, "y of shape ()"),
    ],
)
def test_data_that_can_not_be_trained_on_is_refused(parts: dict[str, Any], said: str) -> None:
    """A user's own data function gets a sentence with shapes, not a traceback from deep inside torch."""
    with pytest.raises(TaskError, match=said):
        Data(**parts)


def test_data_knows_its_sizes() -> None:
    """Validation rows are counted only where there are some."""
    assert Data(train=(X, Y), test=(X[:2], Y[:2])).sizes == {"train": 6, "test": 2}
    assert "validation" in Data(train=(X, Y), test=(X, Y), validation=(X, Y)).sizes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": nn.Linear(1, 1).weight}, "model of type Parameter"),
        ({"data": (X, Y)}, "data of type tuple"),
        ({"loss": None}, "loss of type NoneType"),
        ({"name": "../elsewhere"}, "Its name becomes that of files"),
        ({"name": ""}, "Its name becomes that of files"),
        ({"num_steps": 0}, "num_steps of the task .small. is 0"),
        ({"num_steps": 1.5}, "num_steps of the task .small. is 1.5"),
        ({"eval_every": True}, "eval_every of the task .small. is True"),
        ({"batch_size": -1}, "batch_size of the task .small. is -1"),
        ({"num_threads": 0}, "num_threads of the task .small. is 0"),
        ({"seeds": ()}, "no default seeds"),
    ],
)
def test_a_task_that_means_nothing_is_refused(small: Task, change: dict[str, Any], said: str) -> None:
    """What is wrong is said when the task is made, before minutes of training."""
    with pytest.raises(TaskError, match=said):
        dataclasses.replace(small, **change)


def test_the_score_decides_where_there_is_one(small: Task) -> None:
    """Charts and verdicts ask the task what counts."""
    assert small.measure == "loss"
    scored = dataclasses.replace(small, score=lambda outputs, targets: 1.0, score_name="accuracy")
    assert scored.measure == "accuracy"


def test_a_step_over_all_rows_is_an_epoch(small: Task) -> None:
    """The x axis says what one step is."""
    assert small.step_name == "epoch"
    assert dataclasses.replace(small, batch_size=8).step_name == "step"


def test_evaluating_in_pieces_equals_evaluating_at_once(small: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is spared without changing the number, also for scores that are no mean over rows."""
    task = dataclasses.replace(small, score=lambda outputs, targets: float(outputs.max()))
    model, rows = task.model(), task.data(0).train
    whole = evaluate(task, model, rows)
    monkeypatch.setattr(task_module, "ROWS_AT_ONCE", 7)
    pieces = evaluate(task, model, rows)
    assert pieces == pytest.approx(whole, rel=1e-6)  # a matmul of other shape may round elsewhere


def test_evaluating_uses_eval_mode_and_puts_the_mode_back(small: Task) -> None:
    """Dropout would make test curves noisy, and leaving eval mode on would stop it in training."""
    model = nn.Sequential(nn.Linear(8, 1), nn.Dropout(0.9), nn.Sigmoid())
    rows = small.data(0).test
    assert evaluate(small, model, rows) == evaluate(small, model, rows)
    assert model.training
