"""`Engine`: a way to run the trials of a sweep, with its options.

Behind each name is a module with a function

    run(assignment, **its own options) -> None

A KeyboardInterrupt passes through it after everything finished was handed over. An engine that takes long to start has
also `session(task, **its own options)`, a context inside of which several calls of `run` share it.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from torchdecay.errors import TaskError
from torchdecay.text import nearest, repr_quoted

if TYPE_CHECKING:
    from torchdecay.lab.jobs.job import Job
    from torchdecay.lab.tasks.task import Task
    from torchdecay.lab.training.trial import Assignment

MODULES = {
    "auto": "auto",
    "serial": "serial",
    "process": "process",
    "stacked": "stacked.engine",
    "ray": "ray.engine",
}


@dataclass(frozen=True, init=False)
class Engine:
    """What runs the trials of a sweep.

    Args:
        name: "auto" finds out by doing which way that needs no cluster will be done first;
            "serial": one run after the other; "process": one run per worker process, on all cores, and of a command
            one at a time unless `workers` says more; "stacked": all runs as one model with stacked parameters; "ray":
            one run per worker of a Ray cluster.
        options: of that engine: `workers` for process, ray and auto; `compile`, `num_threads` and `memory` for
            stacked; for ray also `address`, `num_cpus`, `num_gpus`, `scheduler`, `storage`, `checkpoint_seconds`,
            `runtime_env` and `timeout`. Each is explained at the engine's `run`.

    Raises:
        TaskError: there is no such engine, or it has no such option.

    Example:
        >>> Engine("process", workers=2)
        Engine('process', workers=2)
    """

    name: str
    options: Mapping[str, Any]

    def __init__(self, name: str = "auto", **options: Any) -> None:
        if name not in MODULES:
            raise TaskError(
                f"there is no engine {repr_quoted(str(name))}.",
                f"Engines: {', '.join(MODULES)}.",
                nearest(str(name), MODULES),
            )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "options", options)
        parameters = inspect.signature(self._module.run).parameters.values()
        known = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
        for option in options:
            if option not in known:
                has = f"It has {', '.join(known)}." if known else "It has none."
                raise TaskError(f"the engine {name} has no option {repr_quoted(option)}.", has, nearest(option, known))

    def __repr__(self) -> str:
        return f"Engine({', '.join([repr(self.name), *(f'{name}={value!r}' for name, value in self.options.items())])})"

    @property
    def _module(self) -> ModuleType:
        return importlib.import_module(f"torchdecay.lab.engines.{MODULES[self.name]}")

    def session(self, task: Task | Job) -> AbstractContextManager[None]:
        """What several calls of `run` share; nothing for most engines.

        Raises:
            TaskError, MissingExtra: as `run`.
        """
        session = getattr(self._module, "session", None)
        return nullcontext() if session is None else session(task, **self.options)

    def run(self, assignment: Assignment, tell: Callable[[Engine, str], None] = lambda engine, why: None) -> None:
        """Run the trials.

        Args:
            assignment: what to run.
            tell: of auto told which engine it takes, and why, in words.

        Raises:
            TaskError: the task or an option can't be used by this engine.
            MissingExtra: it needs what is not installed.
        """
        if self.name != "auto":
            self._module.run(assignment, **self.options)
            return

        def taken(name: str, why: str) -> None:
            tell(Engine(name, **(self.options if name == "process" else {})), why)

        self._module.run(assignment, taken, **self.options)


def as_engine(engine: str | Engine) -> Engine:
    """An engine from its name, or as it is."""
    return engine if isinstance(engine, Engine) else Engine(engine)
