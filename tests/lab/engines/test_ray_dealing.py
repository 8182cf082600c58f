"""The caller's side of Ray, without Ray: what is dealt, who goes on, and errors that must not be swallowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from sweeping import task
from torchdecay.errors import TaskError
from torchdecay.lab.engines.ray import engine as ray
from torchdecay.lab.engines.ray.dealing import Dealer
from torchdecay.lab.engines.serial import outcome_of
from torchdecay.lab.training.contenders import as_contender
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.trial import Assignment, Keep, Trial
from torchdecay.plans.forms.l2 import decoupled

TRIALS = [Trial(contender=as_contender(decoupled(value)), seed=0, value=value) for value in (0.1, 1.0, 3.0)]
RUN = outcome_of(task(num_steps=4), TRIALS[0], lambda n: None)
assert isinstance(RUN, TrainingRun)


class Table:
    """A dealer, and what it handed over."""

    def __init__(self, choose: Any = None, **changes: Any) -> None:
        self.runs: list[tuple[float | None, TrainingRun | Failure]] = []
        self.steps: list[int] = []
        options: dict[str, Any] = {
            "on_run": lambda trial, outcome: self.runs.append((trial.value, outcome)),
            "on_step": self.steps.append,
        }
        part = Assignment(task=task(), trials=TRIALS, **{**options, **changes})
        self.dealer = Dealer(part, 0, None if choose is None else Keep((), choose))


def test_only_what_is_claimed_is_dealt() -> None:
    """A trial that another process has is skipped when its turn comes, not before."""
    asked: list[float | None] = []

    def claim(trial: Trial) -> bool:
        asked.append(trial.value)
        return trial.value != 0.1

    dealer = Table(claim=claim).dealer
    assert (dealer.next(), asked) == (1, [0.1, 1.0])
    assert (dealer.next(), dealer.next()) == (2, None)


def test_a_run_at_a_rung_is_measured_against_those_before_it() -> None:
    """Asynchronous halving: the first always goes on, later ones have to be among the best so far."""

    def best(rung: int, measures: Mapping[Trial, float]) -> frozenset[Trial]:
        return frozenset([max(measures, key=measures.__getitem__)])

    table = Table(choose=best)
    at = [table.dealer.goes_on(i, {"steps": 4, "measure": value}) for i, value in enumerate((0.5, 0.4, 0.6))]
    assert at == [True, False, True]
    assert table.dealer.goes_on(1, {"steps": 2})
    table.dealer.take(1, {"steps": 4, "measure": 0.4, "so_far": RUN})
    table.dealer.stopped(1)
    assert table.runs == [(1.0, RUN)]


def test_each_outcome_is_handed_over_once_and_each_step_told_once() -> None:
    """Neither Tune's last word on a trial nor a second try after a death repeats anything."""
    table = Table()
    for steps in (1, 3, 2, 3):
        table.dealer.take(0, {"steps": steps})
    report = {"outcome": RUN}
    table.dealer.take(0, report)
    table.dealer.stopped(0)
    table.dealer.died(0, "")
    assert table.runs == [(0.1, RUN)] and table.steps == [1, 2, 1] and report == {}


def test_a_worker_that_dies_twice_is_a_failure_with_what_ray_said() -> None:
    """The others go on."""
    table = Table()
    table.dealer.died(2, "ActorDiedError: ...")
    ((value, failure),) = table.runs
    assert isinstance(failure, Failure) and value == 3.0
    assert "died twice" in failure.message and failure.traceback == "ActorDiedError: ..."
    assert table.dealer.error is None


def test_an_error_of_the_caller_is_kept_and_ends_it() -> None:
    """A full disk while a run is written: Tune would call it a failed trial and run it again."""

    def full(trial: Trial, outcome: TrainingRun | Failure) -> None:
        raise TaskError("the disk is full.")

    table = Table(on_run=full)
    table.dealer.take(0, {"outcome": RUN})
    table.dealer.take(1, {"unusable": "ModuleNotFoundError"})
    assert isinstance(table.dealer.error, TaskError) and "disk is full" in str(table.dealer.error)
    odd = Table(choose=lambda rung, measures: 1 / 0)
    assert not odd.dealer.goes_on(0, {"steps": 4, "measure": 1.0})
    assert isinstance(odd.dealer.error, ZeroDivisionError)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": 0}, "number of workers is 0"),
        ({"num_cpus": 0}, "0 CPUs"),
        ({"num_gpus": -1}, "-1 GPUs"),
        ({"scheduler": "hyperband"}, '"asha", "rounds"'),
        ({"scheduler": object()}, "both stop runs"),
        ({"timeout": 0}, "above 0"),
    ],
    ids=["workers", "cpus", "gpus", "name", "both", "timeout"],
)
def test_options_that_mean_nothing(options: dict[str, Any], said: str) -> None:
    """Before Ray is started."""
    keep = Keep((4,), lambda rung, measures: frozenset(measures)) if said == "both stop runs" else None
    with pytest.raises(TaskError, match=said):
        ray.run(Assignment(task=task(), trials=TRIALS, on_run=lambda *_: None, keep=keep), **options)
