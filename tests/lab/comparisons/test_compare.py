"""Comparing: every finished run is kept, whatever happens to the others."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

import torchdecay as td
from torchdecay.errors import ApplyError, DecayError, TaskError
from torchdecay.lab.comparisons.compare import compare
from torchdecay.lab.engines.runs import Progress
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.trial import as_seeds
from torchdecay.plans.rules import rule


def test_a_comparison_holds_every_run(small: Task) -> None:
    """Three decays times two seeds, each found by its label, the same curves as a run by itself."""
    from torchdecay.lab.training.train import train

    result = compare(small, ["none", "decoupled:0.1", 0.2], seeds=2)
    assert [(run.label, run.seed) for run in result.runs] == [
        ("none", 0), ("decoupled:0.1", 0), ("native(0.2)", 0), ("none", 1), ("decoupled:0.1", 1), ("native(0.2)", 1),
    ]  # fmt: skip
    assert result.of("none")[1].train_loss == train(small, None, seed=1).train_loss
    assert result.seeds == (0, 1) and not result.interrupted and not result.failures


def test_m5_4_curves_with_and_without_over_several_seeds_with_the_spread(small: Task) -> None:
    """Does it prevent overfitting, here? Train and test curves, a spread, and a verdict that names the seeds."""
    result = compare(small, ["none", "decoupled:0.1"], seeds=3)
    middle, spread = result.mean_and_spread("none", "test_loss")
    assert spread is not None and spread > 0
    assert middle == pytest.approx(sum(result.final("none", "test_loss")) / 3)
    assert "over 3 seeds" in td.verdict(result)
    assert "Final gap" in td.verdict(result)


def test_a_plan_is_kept_with_the_reasons_and_the_way_it_was_carried_out(small: Task) -> None:
    """A page can say who decayed, why, and by what means."""
    result = compare(small, ["none", "by_hand:0.1", "decoupled:0.1", "native:0.1"], seeds=1)
    plan = result.plans["decoupled:0.1"]
    assert [(row.name, row.decay) for row in plan.rows] == [
        ("0.weight", "decoupled(0.1)"), ("0.bias", ""), ("2.weight", "decoupled(0.1)"), ("2.bias", ""),
    ]  # fmt: skip
    assert "biases are spared" in plan.rows[1].reason
    assert plan.how.startswith("hook: ") and result.plans["native:0.1"].how.startswith("native: ")
    assert result.plans["by_hand:0.1"].how.startswith("by hand")
    assert result.plans["by_hand:0.1"].rows[0].decay == "by_hand(0.1)"
    assert result.plans["none"].how == "" and result.plans["none"].equation == ""
    assert "2 of 4 parameters decay" in plan.summary


def test_facts_say_what_was_trained(small: Task) -> None:
    """Sizes, optimizer and steps stand in the results, for people."""
    facts = dict(compare(small, ["none"], seeds=1).facts)
    assert facts["train rows"] == "40" and facts["test rows"] == "20"
    assert facts["optimizer"] == "SGD, lr 0.1" and facts["epochs"] == "12"
    assert facts["trainable parameters"] == "61 in 4 tensors"


def test_the_tasks_own_decays_and_seeds_are_taken_when_none_are_named(small: Task) -> None:
    """`torchdecay compare TASK` alone does something sensible."""
    task = dataclasses.replace(small, decays=("none", "coupled:0.1"), seeds=(4,))
    result = compare(task)
    assert result.labels == ("none", "coupled:0.1") and result.seeds == (4,)


def test_ctrl_c_keeps_what_is_finished(small: Task) -> None:
    """Interrupted in the fourth run, three runs are there, and the verdict says so."""

    def stop(progress: Progress) -> None:
        if (progress.label, progress.seed, progress.steps_done) == ("decoupled:0.1", 1, 42):
            raise KeyboardInterrupt

    result = compare(small, ["none", "decoupled:0.1"], seeds=3, on_progress=stop)
    assert result.interrupted and len(result.runs) == 3
    assert "3 of 6 runs were finished" in td.verdict(result)


def test_a_run_that_fails_midway_costs_no_other(small: Task) -> None:
    """The failure is kept with its type, text and line; all other runs are there."""

    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 1)
            self.norm = float(self.linear.weight.detach().norm())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training and float(self.linear.weight.detach().norm()) < 0.5 * self.norm:
                raise RuntimeError("too small to go on")
            return torch.sigmoid(self.linear(x))

    task = dataclasses.replace(small, model=Fragile)
    result = compare(task, ["none", "decoupled:9", "decoupled:0.01"], seeds=2)
    assert [(failure.label, failure.seed) for failure in result.failures] == [("decoupled:9", 0), ("decoupled:9", 1)]
    assert "RuntimeError: too small to go on (at " in result.failures[0].message
    assert len(result.runs) == 4
    assert "2 runs failed (decoupled:9)" in td.verdict(result)


@pytest.mark.parametrize(
    ("decays", "error"),
    [
        (["none", "decoupled:10"], ApplyError),
        (["none", "decopled:1"], DecayError),
        (["none", "none"], TaskError),
    ],
)
def test_a_decay_that_does_not_fit_costs_no_training(small: Task, decays: list[str], error: type[Exception]) -> None:
    """Everything is tried before the first run."""
    steps: list[Progress] = []
    with pytest.raises(error):
        compare(small, decays, on_progress=steps.append)
    assert steps == []


def test_a_rule_that_matches_nothing_is_told_before_training(small: Task) -> None:
    """A user's own task with a typo in its rules fails at once, with the nearest name."""
    from torchdecay.errors import PlanError

    with pytest.raises(PlanError, match=r"matches no parameter"):
        compare(dataclasses.replace(small, rules=[rule("0.wieght", None)]), ["none"])


def test_parameters_of_unknown_role_are_told_once_in_the_notes(small: Task) -> None:
    """A model with something odd in it warns in the results, not once per run."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 1)
            self.mystery = nn.Parameter(torch.randn(3, 5, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.linear(x) + self.mystery.sum())

    with torch.random.fork_rng():
        result = compare(dataclasses.replace(small, model=Odd), ["none", "decoupled:0.1"], seeds=1)
    assert [note for note in result.notes if "unknown role" in note] == [
        '1 parameters of unknown role are spared: "mystery".'
    ]


def test_progress_counts_over_all_runs(small: Task) -> None:
    """The time left is that of the whole comparison."""
    seen: list[Progress] = []
    compare(small, ["none", 0.1], seeds=2, on_progress=seen.append)
    assert [one.steps_done for one in seen if one.run_is_done] == [12, 24, 36, 48]
    assert {one.steps_planned for one in seen} == {48}


@pytest.mark.parametrize(("given", "made"), [(3, (0, 1, 2)), ([5, 7], (5, 7)), ((9,), (9,))])
def test_seeds_are_how_many_or_which(given: Any, made: tuple[int, ...]) -> None:
    """Both ways of saying it."""
    assert as_seeds(given) == made


@pytest.mark.parametrize("given", [0, [], [1, 1], [-1], [0.5], [2**63], -2])
def test_seeds_that_mean_nothing_are_refused(given: Any) -> None:
    """None, twice, negative, or no whole numbers."""
    with pytest.raises(TaskError):
        as_seeds(given)
