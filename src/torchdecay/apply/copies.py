"""Copies by deepcopy, pickle or torch.save: what one of an optimizer takes along, and what its first step says.

torch copies no hooks. So a copy of an optimizer holds, under one attribute, what a checkpoint of it would hold, from
which `attach` goes on, and one hook that says that no plan is at work. A handle that was pickled with its optimizer
finds it again by a bond that both have.
"""

from __future__ import annotations

import copy
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any, Protocol

from torch.optim import Optimizer

from torchdecay.apply.stepping import Arguments
from torchdecay.encoding import described, encode
from torchdecay.errors import DetachedWarning, LoadError, warn_in_step
from torchdecay.plans.decay import Decay
from torchdecay.plans.groups import MARK
from torchdecay.plans.plan import Plan

Remembered = Mapping[str, Any]
"""What an optimizer remembers, as a state dict, of a plan that was attached to it or to what it is a copy of."""

_KEY = -1
"""Of the hook: torch gives its own keys from 0 on."""


class Sleeper(Protocol):
    """A handle that was pickled."""

    def wake(self, optimizer: Optimizer) -> str:
        """Be at work on the optimizer that was copied with it; what is in the way, or ""."""

    def begin(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        """Come before a step that is under way."""


class Bond:
    """What a handle and its optimizer share in one pickle; of a copy neither is known until it is there."""

    def __init__(self) -> None:
        self.handle: Sleeper | None = None
        self.optimizer: Optimizer | None = None

    def __reduce__(self) -> tuple[type[Bond], tuple[()]]:
        return Bond, ()


class Detached:
    """The hook of a copied optimizer: its plan's were not copied."""

    def __init__(self, optimizer: Optimizer | None = None, bond: Bond | None = None) -> None:
        self.bond, self.said = bond or Bond(), False
        self.bond.optimizer = optimizer

    def __reduce__(self) -> tuple[Any, ...]:
        return Detached, (), (self.bond.optimizer, self.bond)

    def __setstate__(self, state: tuple[Optimizer, Bond]) -> None:
        optimizer, self.bond = state
        self.bond.optimizer = optimizer

    def __call__(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        """Attach the plan again where its handle came along, else say that it is not at work."""
        if self.said or MARK not in vars(optimizer):
            return None
        self.said, why = True, "a plan's hooks are not copied"
        handle = self.bond.handle
        if handle is not None:
            # What is gone through now must not change.
            hooks = optimizer._optimizer_step_pre_hooks
            optimizer._optimizer_step_pre_hooks = OrderedDict(hooks)
            why = handle.wake(optimizer)
            if not why:
                return handle.begin(optimizer, args, kwargs)
        steps = max((group["steps"] for group in vars(optimizer)[MARK]["groups"]), default=0)
        warn_in_step(
            f"this {type(optimizer).__name__} is a copy of one that a plan was attached to, and has none: {why}. "
            "What ran by hook decays no more, and schedules stand still. Attach the plan again: "
            f"td.attach(optimizer, plan, model=...) goes on after step {steps}, or from the start with "
            'resume="restart".',
            DetachedWarning,
            stacklevel=3,
        )
        return None


def carry(optimizer: Optimizer, bond: Bond, remembered: Callable[[], Remembered]) -> Callable[[], None]:
    """Let copies of an optimizer take along what it remembers.

    Returns:
        What takes this away.
    """

    def beside() -> dict[str, Any]:
        return {MARK: remembered(), "_optimizer_step_pre_hooks": OrderedDict({_KEY: Detached(optimizer, bond)})}

    _copy_with(optimizer, beside)
    return lambda: vars(optimizer).pop("__getstate__", None)


def _copy_with(optimizer: Optimizer, beside: Callable[[], dict[str, Any]]) -> None:
    """Let copies of an optimizer have these attributes."""

    def getstate() -> dict[str, Any]:
        state: dict[str, Any] = dict(type(optimizer).__getstate__(optimizer))
        for own in ("__getstate__", "load_state_dict", "step"):
            state.pop(own, None)
        return state | beside()

    optimizer.__getstate__ = getstate  # type: ignore[method-assign]


def remembered_by(optimizer: Optimizer) -> Remembered | None:
    """What an optimizer without a handle remembers, as a state dict: it was loaded, or is a copy."""
    groups = optimizer.param_groups
    state: dict[str, Any] = {"param_groups": groups}
    if any("; " in str(group.get(MARK)) for group in groups):
        return state
    copied = vars(optimizer).get(MARK)
    return None if copied is None else state | {MARK: copied}


def remember(optimizer: Optimizer, left: Remembered) -> None:
    """Keep for `attach` what a plan left elsewhere, also in copies and state dicts that are made until then."""
    vars(optimizer)[MARK] = left
    _copy_with(optimizer, lambda: {MARK: vars(optimizer)[MARK]})
    if _add_remembered not in optimizer._optimizer_state_dict_post_hooks.values():
        optimizer.register_state_dict_post_hook(_add_remembered)


def _add_remembered(optimizer: Optimizer, state: dict[str, Any]) -> None:
    if MARK in vars(optimizer):
        state.setdefault(MARK, vars(optimizer)[MARK])


def forget_copying(optimizer: Optimizer) -> None:
    """From here on a plan is at work again."""
    if vars(optimizer).pop(MARK, None) is not None:
        optimizer._optimizer_step_pre_hooks.pop(_KEY, None)


def what_is_copied() -> tuple[Any, bool]:
    """What copy.deepcopy was called with, and whether an object above this one is not finished yet."""
    frame: FrameType | None = sys._getframe(1)
    whole, unfinished = None, False
    while frame is not None and (frame := frame.f_back) is not None and frame.f_globals.get("__name__") == "copy":
        unfinished = unfinished or frame.f_code.co_name == "_reconstruct"
        if frame.f_code is copy.deepcopy.__code__:
            whole = frame.f_locals["x"]
    return whole, unfinished


def is_there(copied: Any) -> bool:
    """Whether a copy was begun and has its attributes."""
    return copied is not None and bool(vars(copied))


def readable(plan: Plan) -> Plan:
    """The plan, with what no pickle can hold, a schedule that has no name say, as its description."""
    made: dict[Decay, Decay] = {}
    for decay in {row.decay for row in plan.rows if row.decay is not None}:
        try:
            encode(decay)
        except LoadError:
            made[decay] = described(decay)
    rows = tuple(row if row.decay not in made else replace(row, decay=made[row.decay]) for row in plan.rows)
    own = None if plan.decay is None else made.get(plan.decay, plan.decay)
    return replace(plan, rows=rows, decay=own) if made else plan
