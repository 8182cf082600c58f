"""A decay from a trial of Optuna or Ray, in a range in which it acts."""

from __future__ import annotations

import optuna
import pytest
from torch import nn

import torchdecay as td
from torchdecay.integrations.tuning import decay_range, suggest_decay


def test_the_range_is_that_of_the_run():
    """One percent of a weight in the run at one end, a hundred time scales at the other, at most half in a step."""
    run = td.Run(steps=1_000, lr=1e-3, lr_schedule="linear")
    low, high = decay_range(run)
    model = nn.Linear(2, 2)
    for value, wanted in ((low, 0.01), (high, 1.0)):
        forecast = td.forecast(td.plan(model, td.decoupled(value)), run=run)
        assert forecast.groups[0].total_shrink == pytest.approx(wanted, rel=0.02)
    assert decay_range(td.Run(steps=10, lr=0.1))[1] == 5.0


def test_trials_and_configs():
    """A study takes values within the range; a config of Ray brings its own."""
    run = td.Run(steps=1_000, lr=1e-3)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: suggest_decay(trial, run, form=td.cautious).coefficient, n_trials=8)
    low, high = decay_range(run)
    assert all(low <= trial.params["weight_decay"] <= high for trial in study.trials)
    assert suggest_decay({"weight_decay": 0.3}, run) == td.decoupled(0.3)
    with pytest.raises(td.ApplyError, match="loguniform"):
        suggest_decay({}, run)
