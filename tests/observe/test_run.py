"""`Run`: what follows is worked out, what contradicts is refused."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn, optim

import torchdecay as td
from torchdecay.errors import DecayError, UnitError


def test_steps_follow_from_epochs() -> None:
    """The last batch of an epoch counts, though it is smaller."""
    run = td.Run(epochs=10, batch_size=128, num_samples=50_000)
    assert (run.steps_per_epoch, run.num_steps, run.num_epochs) == (391, 3910, 10)


def test_epochs_follow_from_steps() -> None:
    """As a fraction where they do not come out even."""
    assert td.Run(steps=150, batch_size=10, num_samples=1000).num_epochs == 1.5
    assert td.Run(steps=100).num_epochs is None and td.Run(steps=100).steps_per_epoch is None
    assert td.Run(steps=100, epochs=4).steps_per_epoch == 25


def test_accumulated_batches_make_one_step() -> None:
    """A step is one of the optimizer's."""
    run = td.Run(epochs=2, batch_size=8, num_samples=1000, accumulate=4, tokens_per_sample=512)
    assert (run.steps_per_epoch, run.num_steps, run.tokens_per_step) == (32, 64, 8 * 4 * 512)
    assert td.Run(steps=1).tokens_per_step is None


def test_less_than_an_epoch_is_at_least_a_step() -> None:
    """A hundredth of an epoch of ten steps."""
    assert td.Run(epochs=0.01, batch_size=10, num_samples=100).num_steps == 1


@pytest.mark.parametrize("steps", [3900, 3910])
def test_dropping_the_last_batch_is_no_contradiction(steps: int) -> None:
    """Loaders keep or drop it."""
    assert td.Run(steps=steps, epochs=10, batch_size=128, num_samples=50_000).num_steps == steps


@pytest.mark.parametrize("steps", [3899, 3911, 10])
def test_contradictions_are_refused(steps: int) -> None:
    """With all the numbers, and what they make."""
    with pytest.raises(UnitError, match=f"steps={steps} contradicts epochs=10.*3910 steps"):
        td.Run(steps=steps, epochs=10, batch_size=128, num_samples=50_000)


def test_steps_that_no_whole_epochs_make_are_refused() -> None:
    """With what would fit; an epoch that is not over is one."""
    with pytest.raises(UnitError, match=r"steps=10 contradicts epochs=4: 2.5 steps[\s\S]*write steps=8"):
        td.Run(steps=10, epochs=4)
    assert td.Run(steps=10, epochs=2.5).steps_per_epoch == 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "neither steps nor epochs"),
        ({"epochs": 3}, "lacks batch_size or num_samples"),
        ({"epochs": 3, "batch_size": 10}, "lacks batch_size or num_samples"),
    ],
)
def test_what_can_not_be_counted(given: dict[str, Any], said: str) -> None:
    """A run must have a length."""
    with pytest.raises(UnitError, match=said):
        td.Run(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"steps": 0},
        {"steps": 1.5},
        {"steps": True},
        {"epochs": 0, "batch_size": 1, "num_samples": 1},
        {"epochs": float("nan"), "batch_size": 1, "num_samples": 1},
        {"steps": 1, "lr": -1.0},
        {"steps": 1, "accumulate": 0},
        {"steps": 1, "scheduler_interval": "batch"},
        {"steps": 1, "lr_schedule": 3},
    ],
)
def test_numbers_outside_their_range(given: dict[str, Any]) -> None:
    """Refused where they are written."""
    with pytest.raises(DecayError):
        td.Run(**given)


def test_a_run_is_a_value() -> None:
    """Equal when its numbers are, and it takes schedulers and functions."""
    assert td.Run(steps=3) == td.Run(steps=3)
    optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    td.Run(steps=3, lr_schedule=optim.lr_scheduler.ReduceLROnPlateau(optimizer))
    td.Run(steps=3, lr_schedule=lambda step: 1.0)


def test_an_unknown_schedule_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnitError, match='Nearest: "cosine"'):
        td.Run(steps=10, lr_schedule="cosin")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"warmup_steps": 3}, "goes with a schedule by name"),
        ({"warmup_steps": 10, "lr_schedule": "cosine"}, "would never arrive"),
    ],
)
def test_a_warm_up_that_means_nothing(options: dict[str, object], said: str) -> None:
    """Without a schedule by name nobody would read it; as long as the run, nothing would follow."""
    with pytest.raises(UnitError, match=said):
        td.Run(steps=10, **options)  # type: ignore[arg-type]
