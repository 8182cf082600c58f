"""Engines: the same numbers whoever runs them, and a run that fails or a worker that dies costs itself only."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeping import Deadly, network, task
from torchdecay.errors import MissingExtra, TaskError
from torchdecay.lab.engines import auto, process, serial
from torchdecay.lab.engines.engine import Engine
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.contenders import as_contender
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.train import train
from torchdecay.lab.training.trial import Assignment, Keep, Trial
from torchdecay.plans.forms.l2 import decoupled


def trial(value: float, seed: int = 0, lr_scale: float = 1.0) -> Trial:
    return Trial(contender=as_contender(decoupled(value)), seed=seed, value=value, lr_scale=lr_scale)


def run(engine: Any, task: Task, trials: list[Trial], **options: Any) -> dict[Trial, TrainingRun | Failure]:
    """What each trial came to, without wall times."""
    found: dict[Trial, TrainingRun | Failure] = {}

    def on_run(trial: Trial, outcome: TrainingRun | Failure) -> None:
        assert trial not in found
        found[trial] = outcome if isinstance(outcome, Failure) else dataclasses.replace(outcome, seconds=0.0)

    told = {name: options.pop(name) for name in ("on_step", "keep", "claim") if name in options}
    engine.run(Assignment(task=task, trials=trials, on_run=on_run, **told), **options)
    return found


class Reached(dict[tuple[int, str], float]):
    """A `Keep.choose` that writes down what it sees; only coefficients above 0.5 go on."""

    def __call__(self, rung: int, measures: Mapping[Trial, float]) -> frozenset[Trial]:
        self.update({(rung, trial.key): value for trial, value in measures.items()})
        return frozenset(trial for trial in measures if (trial.value or 0) > 0.5)


def breaks(seed: int) -> Any:
    if seed == 1:
        raise RuntimeError("no such rows")
    return task().data(seed)


TRIALS = [trial(0.1), trial(1.0, seed=1), trial(1.0, lr_scale=0.5)]


def test_serial_is_the_training_loop() -> None:
    """The engine adds nothing to `train`: same numbers, with the learning rate scaled."""
    found = run(serial, task(), TRIALS)
    for one in TRIALS:
        alone = train(task(), one.contender, seed=one.seed, lr_scale=one.lr_scale, with_line=False, monitor=False)
        assert found[one] == dataclasses.replace(alone, seconds=0.0)


def leaves(seed: int) -> Any:
    """What was a script says so with sys.exit."""
    if seed == 1:
        sys.exit("no such rows")
    return task().data(seed)


@pytest.mark.parametrize("name", ["serial", "stacked"])
def test_sys_exit_in_a_task_ends_that_run_only(name: str) -> None:
    """Of the one seed it is a failure with the place; the others train."""
    found = run(Engine(name), task(data=leaves), TRIALS)
    failed = found[TRIALS[1]]
    assert isinstance(failed, Failure) and failed.message.startswith("SystemExit: no such rows (at ")
    assert failed.message.endswith("sys.exit ends a run as failed: return, or raise what went wrong")
    assert isinstance(found[TRIALS[0]], TrainingRun) and isinstance(found[TRIALS[2]], TrainingRun)


@pytest.mark.integration
def test_process_is_serial_to_the_bit_and_a_failure_stays_its_own() -> None:
    """Workers train the same runs: every number equal; what raises in one comes back with its traceback."""
    odd = task(data=breaks)
    here, there = (run(engine, odd, TRIALS) for engine in (serial, process))
    failed = there[TRIALS[1]]
    assert isinstance(failed, Failure) and failed.message.startswith("RuntimeError: no such rows")
    assert "in breaks" in failed.traceback and isinstance(here[TRIALS[1]], Failure)
    assert there[TRIALS[0]] == here[TRIALS[0]] and there[TRIALS[2]] == here[TRIALS[2]]


@pytest.mark.integration
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("deaths", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_dead_worker_costs_one_try(tmp_path: Path, deaths: int) -> None:
    """A killed worker's run is tried once more, and recorded as failed when that worker dies too."""
    deadly = task(model=functools.partial(Deadly, str(tmp_path), deaths))
    found = run(process, deadly, [trial(0.1), trial(0.1, seed=1), trial(1.0)], workers=1)
    assert len(list(tmp_path.iterdir())) == deaths
    assert isinstance(found[trial(0.1)], TrainingRun) and isinstance(found[trial(1.0)], TrainingRun)
    hit = found[trial(0.1, seed=1)]
    assert isinstance(hit, TrainingRun) if deaths == 1 else isinstance(hit, Failure) and "died twice" in hit.message


@pytest.mark.integration
def test_workers_that_never_live_are_an_error_not_a_loop() -> None:
    """A task that workers can't import is told at once, with what to do."""

    class Unloadable:
        def __call__(self) -> Any:
            return network()

        def __reduce__(self) -> Any:
            return __import__, ("no_such_module_anywhere",)

    with pytest.raises(TaskError, match="a worker can't use the task"):
        run(process, task(model=Unloadable()), TRIALS, workers=1)


def test_what_can_not_be_sent_is_told() -> None:
    """A generator in the task can't travel: the message offers the engine that needs no copies."""
    with pytest.raises(TaskError, match="can't be sent to other processes"):
        run(process, task(model=functools.partial(lambda _: network(), (i for i in ()))), TRIALS)
    with pytest.raises(TaskError, match="number of workers is 0"):
        run(process, task(), TRIALS, workers=0)


def test_rounds_stop_who_is_not_chosen_and_change_nobody_else() -> None:
    """At each rung the deciding measure of all living goes to choose; who stays trains as if alone."""
    reached = Reached()
    trials, rungs = [trial(0.1), trial(0.4), trial(1.0)], (4, 8)
    found = run(serial, task(), trials, keep=Keep(rungs, reached))
    whole = run(serial, task(), trials)
    runs = [one for one in found.values() if isinstance(one, TrainingRun)]
    assert sorted(one.steps[-1] for one in runs) == [4, 4, 18]
    assert found[trials[2]] == whole[trials[2]]
    stopped, alone = found[trials[0]], whole[trials[0]]
    assert isinstance(stopped, TrainingRun) and isinstance(alone, TrainingRun)
    assert stopped.test_loss == alone.test_loss[:3]
    # Losses come negated, so that more is better.
    assert reached[4, trials[0].key] == -stopped.test_loss[-1]
    assert set(reached) == {(4, one.key) for one in trials} | {(8, trials[2].key)}


def test_steps_are_told_once_also_in_rounds() -> None:
    """The bar does not run backwards: steps that a later round repeats are not counted again."""
    steps: list[int] = []
    run(serial, task(), [trial(0.1), trial(1.0)], keep=Keep((4,), Reached()), on_step=steps.append)
    assert sum(steps) == 4 + 18 and min(steps) > 0


def test_a_trial_that_is_not_ours_is_left_out() -> None:
    """Right before a trial starts somebody may say that another process has it."""
    found = run(serial, task(), TRIALS, claim=lambda one: one.seed == 0)
    assert set(found) == {TRIALS[0], TRIALS[2]}


def test_engines_by_name_and_with_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typo is answered with what was meant, in a name or an option; a missing library with what to install."""
    assert run(Engine("serial"), task(), TRIALS) == run(serial, task(), TRIALS)
    assert repr(Engine("process", workers=2)) == "Engine('process', workers=2)"
    with pytest.raises(TaskError, match='Nearest: "process"'):
        Engine("proces")
    with pytest.raises(TaskError, match=r'option "worker"\.\s+It has workers\.\s+Nearest: "workers"'):
        Engine("process", worker=2)
    with pytest.raises(TaskError, match=r'engine serial has no option "workers"\.\s+It has none'):
        Engine("serial", workers=2)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"torchdecay\[ray\]"), Engine("ray").session(task()):
        pass


def test_auto_passes_options_to_the_engine_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many workers are reckoned with, and are what process gets; the others know no workers."""
    asked = []

    def run(assignment: Assignment, tell: Any, *, workers: int | None = None) -> None:
        asked.append(workers)
        tell(names.pop(), "because")

    names = ["serial", "process"]
    monkeypatch.setattr(auto, "run", run)
    chosen: list[Any] = []
    for _ in range(2):
        Engine("auto", workers=2).run(
            Assignment(task=task(), trials=TRIALS, on_run=lambda *_: None), lambda *told: chosen.append(told)
        )
    assert chosen == [(Engine("process", workers=2), "because"), (Engine("serial"), "because")]
    assert asked == [2, 2]


def test_keys_tell_runs_apart() -> None:
    """Every run of a sweep has a text of its own, also without decay, by groups, and at other learning rates."""
    bare = Trial(contender=as_contender(None), seed=0, value=None)
    grouped = Trial(contender=bare.contender, seed=0, value=None, values=(("head", 0.1), ("body", 1.0)))
    keys = [one.key for one in (*TRIALS, bare, grouped)]
    assert len(set(keys)) == 5
    assert keys[0] == "decoupled(0.1) | seed 0 | lr x 1.0" and keys[4].startswith("head=0.1, body=1.0 | ")
    assert torch.initial_seed() == 0


@pytest.mark.integration
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads masks of signals from Linux")
def test_interrupts_reach_no_worker() -> None:
    """Ctrl-C reaches every process of a terminal; workers are deaf to it, the first one too."""
    asked = """
from pathlib import Path
from sweeping import task
from torchdecay.lab.engines.process import _Worker, packed
for worker in [_Worker(packed(task(), task())) for _ in range(2)]:
    lines = Path(f"/proc/{worker.process.pid}/status").read_text().splitlines()
    print(int(next(line for line in lines if line.startswith("SigBlk"))[7:], 16) >> 1 & 1)
    worker.stop()
"""
    done = subprocess.run([sys.executable, "-c", asked], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"], done.stderr
