"""Which code runs around an optimizer's step, and whose it is."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from torch.optim import optimizer as _torch_optimizer

from torchdecay.apply.handle import Handle
from torchdecay.apply.stepping import guards


def hooks_around(optimizers: Iterable[Any]) -> Iterator[tuple[str, dict[int, Any]]]:
    """The dictionaries of hooks that run around the steps of these optimizers, or of every one, and what they are."""
    when = ("pre", "post")
    for optimizer in optimizers:
        yield from ((f"{one}-step hook", getattr(optimizer, f"_optimizer_step_{one}_hooks", {})) for one in when)
    for one in when:
        yield f"global {one}-step hook", getattr(_torch_optimizer, f"_global_optimizer_{one}_hooks")


def owner_of(hook: Any) -> Literal["plan", "watcher", "foreign"]:
    """Whose hook it is: a plan's that is carried out, torchdecay's own that only looks, or someone else's."""
    if isinstance(getattr(hook, "__self__", None), Handle):
        return "plan"
    home = str(getattr(hook, "__module__", ""))
    return "watcher" if home.partition(".")[0] == __name__.partition(".")[0] else "foreign"


def replaces_step(optimizer: Any) -> bool:
    """Whether the instance has a step of its own, and not its class's, counted by a scheduler or guarded by a plan."""
    step = vars(optimizer).get("step")
    counted = getattr(step, "_wrapped_by_lr_sched", False) or guards(step)
    return step is not None and not (counted and inspect.unwrap(step) is inspect.unwrap(type(optimizer).step))


def foreign_code(optimizers: list[Any]) -> list[str]:
    """What runs around the steps of these optimizers that is neither theirs nor torchdecay's."""
    found = [(where, code) for where, hooks in hooks_around(optimizers) for code in hooks.values()]
    found = [(where, code) for where, code in found if owner_of(code) == "foreign"]
    found += [("replaced step", vars(one)["step"]) for one in optimizers if replaces_step(one)]
    return [f"{where} {_name(code)}" for where, code in found]


def _name(code: Any) -> str:
    name = getattr(code, "__qualname__", type(code).__qualname__)
    return f"{getattr(code, '__module__', type(code).__module__)}.{name}"
