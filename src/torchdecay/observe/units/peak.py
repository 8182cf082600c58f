"""The peak of a run's learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torchdecay.observe.lr_curve import lr_curve
from torchdecay.observe.run import Run


def lr_of_run(run: Run, groups: Sequence[Mapping[str, Any]] | None = None) -> list[float]:
    """The learning rate at each step, the largest over the groups; empty where nobody can know.

    Args:
        run: the run, with its schedule.
        groups: parameter groups; None takes the run's own learning rate, else the groups of its scheduler.
    """
    if groups is None and run.lr is not None:
        groups = [{"lr": run.lr}]
    if groups is None:
        optimizer = getattr(run.lr_schedule, "optimizer", None)
        groups = getattr(optimizer, "param_groups", ())
    if run.lr_schedule is None:
        # One step shows the rate of all.
        run = Run(steps=1)
    curves = lr_curve(run, groups) if groups else None
    return [] if not curves else [max(step) for step in zip(*curves, strict=True)]


def peak_lr(run: Run) -> float | None:
    """The largest learning rate of the run; its start where the schedule can't be known, None without any."""
    return max(lr_of_run(run), default=run.lr)
