"""Engines: ways to run the trials of a sweep. Each is a module with a function `run`.

    run(task, trials, *, on_run, on_step=..., keep=None, **its own options) -> None

`on_run(trial, outcome)` is called in this process as soon as a trial has finished or failed, in any order; `on_step(n)`
when n more steps have been done; `keep` stops some trials at rungs. A KeyboardInterrupt passes through after everything
finished was handed over. One that takes long to start has also `session(task, **its own options)`, a context inside
of which several calls of `run` share it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

from torchdecay.errors import TaskError, need
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.trial import Trial
from torchdecay.text import nearest, repr_quoted

OnRun = Callable[[Trial, "TrainingRun | Failure"], None]
OnSteps = Callable[[int], None]
Claim = Callable[[Trial], bool]
"""Asked right before a trial starts; False where somebody else runs it or has run it."""

EXTRAS = {"serial": "lab", "process": "lab", "stacked": "lab", "ray": "ray"}
"""Each engine and what to install for it."""


def engine_named(name: str) -> ModuleType:
    """The engine's module, which has `run`.

    Raises:
        TaskError: there is no such engine.
        MissingExtra: it needs what is not installed.
    """
    if name not in EXTRAS:
        raise TaskError(
            f"there is no engine {repr_quoted(name)}.",
            f"Engines: auto, {', '.join(EXTRAS)}.",
            nearest(name, ["auto", *EXTRAS]),
        )
    return need(f"torchdecay.lab.engines.{name}", EXTRAS[name])


def session_of(name: str, task: Task, options: Mapping[str, Any]) -> AbstractContextManager[None]:
    """What several calls of the engine's `run` share; nothing for most.

    Raises:
        TaskError, MissingExtra: as `run`.
    """
    if EXTRAS.get(name) != "ray":
        return nullcontext()
    shared: AbstractContextManager[None] = engine_named(name).session(task, **options)
    return shared
