"""The csv task: prepared from its training rows only, and learnable."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

pytest.importorskip("sklearn")
import pandas

import torchdecay as td
from torchdecay.lab.comparisons.compare import compare
from torchdecay.lab.tasks.parts import r_squared
from torchdecay.lab.tasks.table import hidden_width, mse, table
from torchdecay.lab.training.train import train


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """300 rows with a number, one with gaps, a category with gaps and a rare value; the target depends on all."""
    draw = torch.Generator().manual_seed(0)
    size, weight = (torch.randn(300, generator=draw).numpy() for _ in range(2))
    town = ["abc"[i % 3] for i in range(299)] + ["rare"]
    frame = pandas.DataFrame({"size": size, "weight": weight, "town": town})
    score = size - weight + 2 * (frame.town == "b")
    frame["score"] = score.round(3)
    frame["win"] = (score > 0.5).map({True: "yes", False: "no"})
    frame.loc[frame.index % 10 == 0, "weight"] = None
    frame.loc[frame.index % 17 == 0, "town"] = None
    path = tmp_path / "people.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.mark.long
def test_a_classification_learns(people: Path) -> None:
    """From 70 % by always answering the same to well above it, with missing values in both kinds of column."""
    frame = pandas.read_csv(people).drop(columns="score")
    frame.to_csv(people, index=False)
    task = table(people, "win")
    assert task.score_name == "accuracy" and not task.noise
    run = train(dataclasses.replace(task, num_steps=300), None)
    assert run.test_score is not None and run.test_score[-1] > 0.85


@pytest.mark.long
def test_a_regression_learns(people: Path) -> None:
    """R² goes from about 0 to above 0.8; the loss is in units of the target's variance."""
    frame = pandas.read_csv(people).drop(columns="win")
    frame.to_csv(people, index=False)
    task = table(people, "score")
    run = train(dataclasses.replace(task, num_steps=500), None)
    assert task.score_name == "R²"
    assert run.test_loss[0] == pytest.approx(1.0, abs=0.4)
    assert run.test_score is not None and run.test_score[-1] > 0.8


def test_test_rows_teach_the_preprocessing_nothing(people: Path) -> None:
    """Training rows have mean 0 and variance 1 exactly, test rows only nearly: the scale was learned on the former."""
    x, x_test = (rows[0] for rows in (table(people, "win").data(0).train, table(people, "win").data(0).test))
    numbers = x[:, :3]
    torch.testing.assert_close(numbers.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(numbers.std(0, correction=0), torch.ones(3), atol=1e-5, rtol=0)
    assert not torch.allclose(x_test[:, :3].mean(0), torch.zeros(3), atol=1e-3)
    assert torch.isfinite(x).all() and torch.isfinite(x_test).all()


def test_every_seed_splits_anew_into_the_same_columns(people: Path) -> None:
    """The width of the network does not depend on which rows the split happens to pick, rare values included."""
    task = table(people, "win")
    splits = [task.data(seed) for seed in range(5)]
    assert len({split.train[0].shape for split in splits}) == 1
    assert not torch.equal(splits[0].train[0], splits[1].train[0])
    assert torch.equal(splits[0].train[0], task.data(0).train[0])


def test_both_parts_have_every_class(people: Path) -> None:
    """The split is stratified, so a rare class is not missing from one part."""
    made = table(people, "win").data(3)
    share, test_share = (float(y.double().mean()) for _, y in (made.train, made.test))
    assert share == pytest.approx(test_share, abs=0.02)


def test_a_class_with_a_single_row_still_splits(people: Path) -> None:
    """No stratification is possible then, and none is tried."""
    frame = pandas.read_csv(people).drop(columns="score")
    frame.loc[0, "win"] = "maybe"
    frame.to_csv(people, index=False)
    assert table(people, "win").data(0).sizes == {"train": 225, "test": 75}


@pytest.mark.parametrize(
    ("rows", "inputs", "width"), [(20, 3, 16), (300, 5, 32), (300, 60, 64), (100_000, 10, 256), (50, 5000, 256)]
)
def test_the_network_follows_the_data(rows: int, inputs: int, width: int) -> None:
    """More rows or columns, more hidden units, between 16 and 256."""
    assert hidden_width(rows, inputs) == width


def test_r_squared_and_mse() -> None:
    """Perfect is 1 and 0, the mean is 0; without variance there is no R²."""
    targets = torch.tensor([1.0, 2.0, 3.0])
    assert r_squared(targets.unsqueeze(1), targets) == 1.0
    assert r_squared(torch.full((3, 1), 2.0), targets) == 0.0
    assert mse(targets.unsqueeze(1), targets) == 0.0
    assert r_squared(torch.ones(3, 1), torch.ones(3)) != r_squared(torch.ones(3, 1), torch.ones(3))


@pytest.mark.long
def test_a_comparison_on_a_table_has_a_verdict(people: Path) -> None:
    """The user's own file from end to end."""
    result = compare(dataclasses.replace(table(people, "win"), num_steps=60), ["none", "decoupled:10"], seeds=2)
    assert "test accuracy" in td.verdict(result)
    assert any("numeric" in note and "MLP" in note for note in result.notes)
