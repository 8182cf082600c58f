"""Around one step of an optimizer: how deep steps are nested, and what comes before and after a closure."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch.optim import Optimizer

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""What a step was called with, as its hooks see it."""

# What torch puts around every `step`, found on the stack while one is under way.
_STEP_WRAPPER = Optimizer.profile_hook_step(lambda self: None).__code__


def step_depth(optimizer: Optimizer) -> int:
    """How many steps of this optimizer are under way, one inside the other, by their wrappers on the stack."""
    frame: FrameType | None = sys._getframe(1)
    found = 0
    while frame is not None:
        if frame.f_code is _STEP_WRAPPER and frame.f_locals.get("self") is optimizer:
            found += 1
        frame = frame.f_back
    return found


def with_closure(
    args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Callable[[], Any]], Callable[[], Any]]
) -> Arguments | None:
    """The arguments of a step with its closure changed, or None where it has no closure."""
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    if not callable(closure):
        return None
    if "closure" in kwargs:
        return args, {**kwargs, "closure": change(closure)}
    return (args[0], change(closure), *args[2:]), kwargs
