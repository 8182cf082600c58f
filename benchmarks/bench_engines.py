"""What a run costs beyond its training: by the engines process and ray, and written into the store of a sweep."""

from __future__ import annotations

import dataclasses
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from paired import Check, Options, Spread, main, timed, undisturbed
from torchdecay.lab.engines import process
from torchdecay.lab.engines.ray import engine as ray
from torchdecay.lab.engines.ray.cluster import connected
from torchdecay.lab.engines.serial import outcome_of
from torchdecay.lab.storage.store import Store
from torchdecay.lab.tasks.task import Data, Task
from torchdecay.lab.training.contenders import as_contender
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.trial import Assignment, Trial
from torchdecay.plans.forms.l2 import decoupled

RUNS = 41


def rows(seed: int) -> Data:
    x = torch.zeros(4, 2)
    return Data(train=(x, x), test=(x, x))


def next_to_nothing() -> Task:
    """Ten steps of a network of six numbers: some milliseconds, so that what remains is overhead."""
    model = functools.partial(nn.Linear, 2, 2)
    return Task(name="nothing", data=rows, model=model, loss=nn.functional.mse_loss, num_steps=10, num_threads=1)


def trials(count: int) -> list[Trial]:
    return [Trial(contender=as_contender(decoupled(1.0)), seed=seed, value=1.0) for seed in range(count)]


def seconds(run: Callable[..., None]) -> tuple[float, float]:
    """From the call to the end of the first run, and for each run after it, with one worker."""
    task, times = next_to_nothing(), list[float]()
    start = time.perf_counter()
    asked = trials(RUNS)
    run(Assignment(task=task, trials=asked, on_run=lambda *_: times.append(time.perf_counter() - start)), workers=1)
    return times[0], (times[-1] - times[0]) / (RUNS - 1)


def of_engine(name: str, run: Callable[..., None], options: Options) -> Iterator[Check]:
    """Until the first run is there, and each further one."""
    firsts, furthers = zip(*[undisturbed(lambda: seconds(run), options) for _ in range(options.repeats)], strict=True)
    yield Check(f"{name}: from the call to the end of the first run, of next to nothing", Spread.of(firsts), unit="s")
    yield Check(f"{name}: each further run of next to nothing, one worker", Spread.of(furthers), unit="ms")


def of_store(options: Options) -> Iterator[Check]:
    """Claiming and recording a run with 100 points in its curves, in a store that holds a hundred and more."""
    long = dataclasses.replace(next_to_nothing(), num_steps=1000)
    made = outcome_of(long, trials(1)[0], lambda n: None)
    if isinstance(made, Failure):
        sys.exit(made.message)
    with tempfile.TemporaryDirectory() as folder:
        identity = {"task": "nothing", "form": "decoupled"}
        store = Store(Path(folder) / "sweep.db").open(identity=identity, measure="test_loss", num_steps=1000)
        times = []
        for trial in trials(100 + 10 * options.repeats):
            run: TrainingRun = dataclasses.replace(made, seed=trial.seed)
            start = time.perf_counter()
            store.claim(trial.key)
            store.record(trial, run)
            times.append(time.perf_counter() - start)
        store.close()
    yield Check("store: claiming and recording a run with 101 points", Spread.of(times[100:]), unit="ms")


def measure(options: Options) -> Iterator[Check]:
    training = [timed(lambda: outcome_of(next_to_nothing(), trials(1)[0], lambda n: None)) for _ in range(20)]
    yield Check("next to nothing itself, in this process", Spread.of(training[5:]), unit="ms")
    yield from of_store(options)
    yield from of_engine("process", process.run, options)
    starts = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        with connected(None, num_cpus=2, runtime_env=None, timeout=30):
            starts.append(time.perf_counter() - start)
    yield Check("ray: starting it on this machine, once a sweep", Spread.of(starts), unit="s")
    with connected(None, num_cpus=2, runtime_env=None, timeout=30):
        yield from of_engine("ray, started", ray.run, options)


if __name__ == "__main__":
    main("engines", measure, repeats=3)
