"""Functions under a sweep: what they are given, what they may do, and what they may not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import torchdecay as td
from torchdecay.errors import TaskError
from torchdecay.lab.engines.engine import Engine
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.lab.sweeps.search import Search
from torchdecay.lab.sweeps.sweep import sweep

pytestmark = pytest.mark.long
SEARCH = Search(0.1, 10, points=3)


def parabola(decay: Any, *, seed: int, lr_scale: float, report: Any) -> float:
    value = 0.0 if decay is None else decay.coefficient
    for step in range(9):
        report(10 * step, (value - 1) ** 2 + seed / 100 + 1 / (step + 1))
    print("printed", flush=True)
    return (value - 1) ** 2 + seed / 100


def swept(function: Any, **options: Any) -> Sweep:
    return sweep(function, **{"search": SEARCH, "seeds": 3, "engine": "serial", **options})


def test_a_function_is_given_decay_seed_and_lr_scale_and_returns_the_metric() -> None:
    """The decay is that of the form; what it reports is the curve, what it returns its end."""
    given = []

    def train(decay: Any, *, seed: int, lr_scale: float, report: Any) -> Any:
        here = td.lab.current()
        assert here is not None and here.folder is None
        given.append((decay, seed, lr_scale, here.value, here.seed))
        return np.float32(1.0) if seed else torch.tensor(2.0)

    found = swept(train, form="coupled", values=[0.5], search=Search(lr_scales=(1, 2)), seeds=2)
    assert (td.coupled(0.5), 1, 2.0, 0.5, 1) in given and (None, 0, 1.0, 0.0, 0) in given and len(given) == 8
    assert {run.validation_loss for run in found.runs} == {(1.0,), (2.0,)} and td.lab.current() is None


def test_sys_exit_ends_a_run_and_not_the_sweep() -> None:
    """As an exception does: a failed run with the place and what to do instead; one value is told as one."""

    def train(decay: Any, *, seed: int, lr_scale: float, report: Any) -> float:
        if decay is not None and decay.coefficient > 1:
            sys.exit(3)
        return parabola(decay, seed=seed, lr_scale=lr_scale, report=report)

    found = swept(train, values=[0.5, 10.0])
    assert len(found.runs) == 6 and len(found.failures) == 3
    assert found.failures[0].message.startswith("SystemExit: 3 (at ") and __file__ in found.failures[0].message
    assert "of one value and no decay." in td.verdict(found)


def test_curves_and_choice_are_those_of_the_reports(capfd: pytest.CaptureFixture[str]) -> None:
    """Steps as they were told, the returned one last; what it prints disturbs nothing."""
    found = swept(parabola)
    assert found.runs[0].steps == (0, 10, 20, 30, 40, 50, 60, 70, 80, 81) and found.title == "parabola"
    assert found.best is not None and found.best.point.label == "decoupled(1)" and not found.failures
    assert "printed" in capfd.readouterr().out
    assert "Against no decay (1.010): better, and by more than the seeds explain" in td.verdict(found)
    flipped = swept(parabola, maximize=True)
    assert flipped.best is not None and flipped.best.point.value == 10.0 and flipped.higher_is_better


@pytest.mark.integration
def test_workers_tell_the_same_and_halving_stops_there_too() -> None:
    """Each in a process of its own, asked at each report whether it goes on."""
    here, there = (swept(parabola, engine=one, seeds=1) for one in ("serial", Engine("process", workers=2)))
    assert [run.validation_loss for run in here.runs] == [run.validation_loss for run in there.runs]
    halved = swept(
        parabola, search=Search(0.1, 10, points=6, kind="halving"), seeds=1, engine=Engine("process", workers=1)
    )
    assert any(run.stopped for run in halved.runs) and halved.best is not None and not halved.failures


def test_a_stop_is_no_error_of_the_function() -> None:
    """Neither `except Exception` nor a handler that goes on makes another run of it."""
    ends = []

    def train(decay: Any, *, seed: int, lr_scale: float, report: Any) -> float:
        value = 0.0 if decay is None else decay.coefficient
        try:
            for step in range(9):
                report(step, value)
        except Exception:
            ends.append("an error")
        finally:
            ends.append(f"{value:g} cleaned up")
        return value

    found = swept(train, search=Search(0.1, 10, points=4, kind="halving"), seeds=1)
    assert "an error" not in ends and "10 cleaned up" in ends
    assert {run.label for run in found.runs if run.stopped} >= {"decoupled(10)"}


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda decay, *, seed, lr_scale, report: None, "returned None"),
        (lambda decay, *, seed, lr_scale, report: "low", "returned 'low', of type str"),
        (lambda decay, *, seed, lr_scale, report: report(1, None), "report(1, ...) of <lambda> was given None"),
        (lambda decay, *, seed, lr_scale, report: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_fails_is_recorded_with_why(function: Any, said: str) -> None:
    """As of every run."""
    found = swept(function, seeds=1)
    assert not found.runs and len(found.failures) == 4 and said in found.failures[0].message


def test_a_function_that_takes_other_arguments_is_refused_at_once() -> None:
    """With what to write."""
    with pytest.raises(TaskError, match="def train"):
        swept(lambda decay, seed: 1.0)
    with pytest.raises(TaskError, match="what is to be swept is of type int"):
        swept(3)
    with pytest.raises(TaskError, match="no range of values"):
        swept(parabola, search="grid")


def test_a_store_keeps_runs_of_functions(tmp_path: Path) -> None:
    """Nothing finished is made again, and what another function made is no run of this one."""
    path = tmp_path / "s.db"
    first = swept(parabola, store=path)
    calls = []

    def counted(*words: Any, **more: Any) -> float:
        calls.append(words)
        return parabola(*words, **more)

    counted.__qualname__, counted.__module__, counted.__name__ = parabola.__qualname__, __name__, "parabola"
    again = swept(counted, store=td.lab.Store(path, resume=True))
    assert not calls and [run.validation_loss for run in again.runs] == [run.validation_loss for run in first.runs]
    with pytest.raises(TaskError, match=r"function tests.lab.jobs.test_function:parabola there"):
        swept(lambda decay, *, seed, lr_scale, report: 1.0, store=td.lab.Store(path, resume=True))


def test_a_metric_of_0_is_not_told_as_minus_0() -> None:
    told: list[float] = []
    swept(lambda decay, *, seed, lr_scale, report: 0.0, seeds=1, on_progress=lambda now: told.append(now.best_value))
    assert "-0.0" not in map(str, told) and 0.0 in told
