"""Optimizers as they are given: their groups, the names of what is in them, and the numbers that they say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor

from torchdecay.apply.handle import Handle
from torchdecay.errors import ApplyError
from torchdecay.optimizers.wrappers import holds, is_optimizer, unwrap
from torchdecay.plans.groups import MARK

DECAY_NAMES = ("weight_decay", "wd", "weight_decay_rate", "l2", "l2_reg")
"""What optimizers call it, in their groups or as an attribute of their own."""

Wiring = Literal["", "attached", "not attached", "hooks lost"]


def optimizers_of(given: Any, *, keep_steps: bool = False) -> list[Any]:
    """The optimizers in what a user gave, without what is wrapped around them, unless it has a step that is to be kept.

    Raises:
        ApplyError: something else.
    """
    several = list(given) if isinstance(given, Iterable) and not hasattr(given, "param_groups") else [given]
    if isinstance(given, Mapping):
        several = list(given.values())
    for one in several:
        if not is_optimizer(one):
            raise ApplyError(
                f"{type(one).__name__} is not an optimizer.{holds(one)}",
                "An optimizer has a step and a list of param_groups.",
                "Give a torch.optim.Optimizer, or a list of them.",
            )
    if not several:
        raise ApplyError("there is no optimizer in an empty list.", fix="Give at least one.")
    return [unwrap(one, keep_steps=keep_steps) for one in several]


def name_all(optimizer: Any, known: Mapping[int, str], *, unnamed: str = "group {group}, #{place}") -> list[list[str]]:
    """For each group the names of its parameters.

    Args:
        optimizer: whose.
        known: `id(parameter)` → name, where the model is known.
        unnamed: how to call those that neither the model nor `param_names` names.
    """
    named = []
    for index, group in enumerate(optimizer.param_groups):
        own = group.get("param_names", ())
        params = group["params"]
        fallback = (
            list(own)
            if len(own) == len(params)
            else [unnamed.format(group=index, place=place) for place in range(len(params))]
        )
        named.append([known.get(id(param), name) for param, name in zip(params, fallback, strict=True)])
    return named


def wiring_of(group: Mapping[str, Any], handle: Handle | None) -> Wiring:
    """Whether a plan is at work on a group, "" without a plan.

    "not attached", where the group was built from a plan that needs it; "hooks lost", where one was attached, and a
    copy or a pickle dropped its hooks.
    """
    mark = str(group.get(MARK, ""))
    if handle is not None:
        return "attached"
    if mark.startswith("not attached"):
        return "not attached"
    return "hooks lost" if mark else ""


def decay_of(optimizer: Any, group: Mapping[str, Any]) -> tuple[str, Any]:
    """The name and the value of a group's weight decay: its own, else the optimizer's; ("", None) without one."""
    for name in DECAY_NAMES:
        if name in group:
            return name, group[name]
    own = getattr(optimizer, "__dict__", {})
    return next(((name, own[name]) for name in DECAY_NAMES if isinstance(own.get(name), float)), ("", None))


def switch_off(names: dict[str, Any]) -> None:
    """Write 0 wherever a weight decay stands."""
    for name in DECAY_NAMES:
        old = names.get(name)
        if isinstance(old, (Real, Tensor)):
            names[name] = torch.zeros_like(old) if isinstance(old, Tensor) else 0.0


def why_unusable(value: Any, name: str) -> str:
    """Why a group's number can't be one, or ""."""
    number = float_of(value)
    if number is None:
        return f"{name} is {value!r}, which is no number"
    if not math.isfinite(number):
        return f"{name} is {number}"
    return f"{name} is {number:g}, so that weights grow" if number < 0 else ""


def float_of(value: Any) -> float | None:
    """The number that something is, NaN and infinities too: of Python or numpy, or in a tensor of one element.

    None for anything else: text and truth values are no numbers, though Python would calculate with some.
    """
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 and not value.is_meta else None
    return None if isinstance(value, bool) or not isinstance(value, Real) else float(value)


def as_number(value: Any) -> float | None:
    """The same where it is finite."""
    number = float_of(value)
    return number if number is not None and math.isfinite(number) else None
