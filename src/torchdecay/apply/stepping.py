"""Around one step of an optimizer: how deep steps are nested, where they raise, and what comes after a closure."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, MethodType
from typing import Any, Protocol

import torch
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""What a step was called with, as its hooks see it."""

# What torch puts around every `step`, found on the stack while one is under way.
STEP_WRAPPER = Optimizer.profile_hook_step(lambda self: None).__code__


def step_depth(optimizer: Optimizer) -> int:
    """How many steps of this optimizer are under way, one inside the other, by their wrappers on the stack."""
    frame: FrameType | None = sys._getframe(1)
    found = 0
    while frame is not None:
        if frame.f_code is STEP_WRAPPER and frame.f_locals.get("self") is optimizer:
            found += 1
        frame = frame.f_back
    return found


def closure_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Any] | None:
    """The closure that a step was called with, as its hooks see it; None without one."""
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    return closure if callable(closure) else None


def with_closure(
    args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Callable[[], Any]], Callable[[], Any]]
) -> Arguments | None:
    """The arguments of a step with its closure changed, or None where it has no closure."""
    closure = closure_of(args, kwargs)
    if closure is None:
        return None
    if "closure" in kwargs:
        return args, {**kwargs, "closure": change(closure)}
    return (args[0], change(closure), *args[2:]), kwargs


def leave_traceback(error: BaseException) -> None:
    """Take the caller's frame out of the traceback of what it caught and goes on to raise: the fault is not its own."""
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next


def untraced(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that torch.compile(optimizer.step) does not trace: it would do so again whenever a counter changes.

    `torch.compiler.disable` alone costs some microseconds at each call, also where nothing is compiled.
    """
    disabled = torch.compiler.disable(hook)  # type: ignore[no-untyped-call]

    def run(*args: Any) -> Any:
        return disabled(*args) if torch.compiler.is_compiling() else hook(*args)

    return run


class Guard(Protocol):
    """What stands around the steps of an optimizer."""

    def arrange(self) -> None:
        """Called before a step and its first hook."""

    def abandon(self) -> None:
        """Called when a step raised, whatever, before the error goes on."""

    def depart(self) -> None:
        """Called when a step is over, however it ended: to take hooks away within one would end it."""


def guard_steps(optimizer: Optimizer, find: Callable[[Optimizer], Guard | None]) -> Callable[[], None]:
    """Stand around `optimizer.step`, since the hooks of torch come in the order of their making and hear of no error.

    Returns:
        What takes this away. Where another has wrapped the step since, it stays, and finds nothing any more.
    """
    before = vars(optimizer).get("step")
    step = optimizer.step
    if guards(step):
        return lambda: None

    @functools.wraps(step)
    def guarded(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        first = None if torch.compiler.is_compiling() else find(self)
        if first is not None:
            first.arrange()
        try:
            return step.__func__(self, *args, **kwargs) if isinstance(step, MethodType) else step(*args, **kwargs)
        except BaseException as error:
            if (guard := find(self)) is not None:
                # What can't be taken back must not hide why the step ended.
                with suppress(Exception):
                    guard.abandon()
            leave_traceback(error)
            raise
        finally:
            if first is not None:
                first.depart()

    guarded._guards = True  # type: ignore[attr-defined]
    mine = MethodType(guarded, optimizer)
    optimizer.step = mine  # type: ignore[method-assign]

    def undo() -> None:
        if vars(optimizer).get("step") is mine:
            del optimizer.step
            if before is not None:
                optimizer.step = before  # type: ignore[method-assign]

    return undo


def guards(step: Any) -> bool:
    """Whether a step is guarded, be it further within."""
    return getattr(step, "_guards", False)


def run_last(hooks: Any, mine: RemovableHandle) -> None:
    """Move a hook behind all others but those that torchdecay only looks with, which stay where they are around it."""
    if next(reversed(hooks), mine.id) == mine.id:
        return
    later = []
    for key in reversed(hooks):
        if key == mine.id:
            break
        later.append(key)
    watching = [key for key in later if str(getattr(hooks[key], "__module__", "")).startswith("torchdecay.")]
    if len(watching) < len(later):
        for key in (mine.id, *reversed(watching)):
            hooks.move_to_end(key)
