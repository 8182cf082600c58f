"""The trunk of forks: a training without decay up to some step, from where each value goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from torchdecay.arguments import check_count
from torchdecay.errors import TaskError
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.contenders import BARE
from torchdecay.lab.training.running import Running
from torchdecay.lab.training.train import train


class _There(BaseException):
    """The step is reached; no error of the training."""


def forked(task: Task, step: int, seeds: Iterable[int], lr_scales: Iterable[float]) -> Task:
    """The task with what its runs go on from: where they are after the first point of the curves from this step on."""
    check_count(step, "fork_at", error=TaskError)
    point = -(-step // task.eval_every) * task.eval_every
    if point >= task.num_steps:
        raise TaskError(
            f"fork_at is {step}, and a run of the task {task.name!r} has {task.num_steps:,} steps, looked at every "
            f"{task.eval_every}.",
            fix=f"Fork earlier: fork_at={(task.num_steps - 1) // task.eval_every * task.eval_every // 2 or 1}, say.",
        )
    scales = tuple(lr_scales)
    trunk = {(seed, scale): _state_at(task, point, seed, scale) for seed in seeds for scale in scales}
    return dataclasses.replace(task, trunk=trunk)


def _state_at(task: Task, point: int, seed: int, lr_scale: float) -> Mapping[str, Any]:
    found: list[Mapping[str, Any]] = []

    def look(running: Running) -> None:
        if running.record.steps[-1] == point:
            if running.setup.handle is not None:
                # Nothing decays in the trunk, and what goes on from it has a plan of its own.
                running.setup.handle.remove()
            found.append(running.state_dict())
            raise _There

    try:
        train(task, BARE, seed=seed, lr_scale=lr_scale, with_line=False, monitor=False, on_point=look)
    except _There:
        return found[0]
    raise AssertionError("the point lies inside the run")
