"""Which code runs around an optimizer's step, and whose it is."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch.optim import optimizer as _torch_optimizer

from torchdecay.apply.handle import Handle
from torchdecay.apply.stepping import guards

ATTRIBUTES = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_GLOBAL: ModuleType = _torch_optimizer
_GLOBAL_NAMES = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")


@dataclass(frozen=True)
class Around:
    """One piece of code that runs around a step.

    Attributes:
        where: "pre-step hook", "post-step hook", "global pre-step hook", ..., "replaced step".
        name: the function, with its module.
        owner: "plan" (a Handle carries a plan out), "watcher" (torchdecay's own, only looks), or "foreign".
    """

    where: str
    name: str
    owner: str

    def __str__(self) -> str:
        return f"{self.where} {self.name}"


def around(optimizers: Iterable[Any]) -> list[Around]:
    """All code around the steps of these optimizers, global hooks included."""
    found = []
    for optimizer in optimizers:
        for attribute in ATTRIBUTES:
            where = "pre-step hook" if "pre" in attribute else "post-step hook"
            found += [_read(where, hook) for hook in getattr(optimizer, attribute, {}).values()]
        step = vars(optimizer).get("step")
        if step is not None and not _only_counts(optimizer, step):
            found.append(Around("replaced step", _name(step), "foreign"))
    for hooks, where in zip(global_hooks(), ("global pre-step hook", "global post-step hook"), strict=True):
        found += [_read(where, hook) for hook in hooks.values()]
    return found


def owner_of(hook: Any) -> str:
    """Whose hook it is, as in `Around.owner`."""
    bound = getattr(hook, "__self__", None)
    if isinstance(bound, Handle):
        return "plan"
    home = str(getattr(hook, "__module__", ""))
    return "watcher" if home.partition(".")[0] == __name__.partition(".")[0] else "foreign"


def global_hooks() -> Iterator[dict[int, Any]]:
    """The dictionaries of the hooks that run around every torch optimizer's step."""
    for name in _GLOBAL_NAMES:
        yield getattr(_GLOBAL, name)


def _read(where: str, hook: Any) -> Around:
    return Around(where, _name(hook), owner_of(hook))


def _name(function: Any) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', type(function).__module__)}.{name}"


def _only_counts(optimizer: Any, step: Any) -> bool:
    """Whether a step set on the instance is the class's own, wrapped by a scheduler that notes the call, or a plan."""
    counted = getattr(step, "_wrapped_by_lr_sched", False) or guards(step)
    return counted and inspect.unwrap(step) is inspect.unwrap(type(optimizer).step)
