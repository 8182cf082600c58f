"""The optimizer that takes the step, whatever stands around it: one answer for everything that is given one.

accelerate's, Lightning's and Fabric's proxies, Lookahead, SAM, SWA and wrappers for mixed precision keep an optimizer
in an attribute, and share its parameter groups with it: the step of the one inside is where weights are updated, so
this is where a plan is attached, and what is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torchdecay.errors import ApplyError
from torchdecay.optimizers.cards import card_of

if TYPE_CHECKING:
    from torch.optim import Optimizer

_PRE_HOOKS = "_optimizer_step_pre_hooks"
_HOOKS = (
    _PRE_HOOKS,
    "_optimizer_step_post_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


def is_optimizer(given: object) -> bool:
    """Whether something has what every optimizer has, of torch or not: parameter groups, and a step."""
    return bool(_groups(given)) and not isinstance(given, type) and callable(getattr(given, "step", None))


def unwrap(given: Any, *, keep_steps: bool = False) -> Any:
    """The innermost optimizer that shares its groups with what was given, which is returned where there is none.

    Args:
        given: an optimizer, or a wrapper of one.
        keep_steps: see through proxies alone, on which hooks would not be called: SAM and Lookahead, say, are
            optimizers with a step of their own.
    """
    return _chain(given, keep_steps=keep_steps)[-1]


def scheduler_inside(given: Any) -> Any:
    """The scheduler in what stands around one, as accelerate's does; what was given where there is none."""
    while not callable(given) and getattr(given, "scheduler", None) is not None:
        given = given.scheduler
    return given


def around(given: Any) -> list[Optimizer]:
    """The optimizers of torch that stand around the innermost one, with hooks of their own."""
    from torch.optim import Optimizer

    *outer, inner = _chain(given)
    own = [getattr(inner, hooks, None) for hooks in _HOOKS]
    return [
        one
        for one in outer
        if isinstance(one, Optimizer)
        and all(hooks in _attributes(one) for hooks in _HOOKS)
        and not any(getattr(one, hooks) is mine for hooks, mine in zip(_HOOKS, own, strict=True))
    ]


def _chain(given: Any, *, keep_steps: bool = False) -> list[Any]:
    """What was given, and what is inside it, from the outermost to the innermost."""
    seen = [given]
    # Of a class that has a card the step is known: it hands nothing on. A proxy may pass for one.
    while not (_PRE_HOOKS in _attributes(seen[-1]) and (keep_steps or card_of(seen[-1]) is not None)):
        shared = set(map(id, _groups(seen[-1])))
        inside = [one for one in _inside(seen[-1]) if not any(one is before for before in seen)]
        found = next((one for one in inside if shared & set(map(id, _groups(one)))), None)
        if found is None:
            break
        seen.append(found)
    return seen


def torch_optimizer(given: Any) -> Optimizer:
    """The torch optimizer in what was given, on which hooks can stand."""
    from torch.optim import Optimizer

    found = unwrap(given)
    name = type(given).__name__
    if not isinstance(found, Optimizer):
        several = isinstance(given, Iterable) and not is_optimizer(given)
        raise ApplyError(
            f"got a {name} where a torch optimizer belongs.{holds(given)}",
            "Each optimizer takes its own steps." if several else "Its steps can't be hooked.",
            "Give each torch.optim.Optimizer on its own.",
        )
    if not all(hasattr(found, hooks) for hooks in _HOOKS):
        raise ApplyError(
            f"this {type(found).__name__} lacks hooks that torch's optimizers have.",
            "It is a wrapper that was not built as one, and what was registered on it would not be called.",
            "Give the optimizer inside it.",
        )
    inside = [one for one in _inside(found) if _decays(one) and not hasattr(found, "_sync_param_groups")]
    if inside and card_of(found) is None and _weights([found]) <= _weights(inside):
        names = " and ".join(sorted({type(one).__name__ for one in inside}))
        raise ApplyError(
            f"this {type(found).__name__} hands its step on to {names} with parameter groups of its own.",
            "What stands in the groups of the one is not what the other decays by.",
            "Give what is inside it, each on its own.",
        )
    return found


def _groups(given: Any) -> Sequence[Mapping[str, Any]]:
    try:
        groups = getattr(given, "param_groups", ())
    except Exception:
        # A proxy whose object is gone, a property that needs what is not there yet.
        return ()
    are = isinstance(groups, (list, tuple)) and all(isinstance(one, Mapping) and "params" in one for one in groups)
    return groups if are else ()


def _inside(optimizer: Any) -> Iterator[Any]:
    """The optimizers in the attributes of another, also in lists and dicts of them."""
    slots = (name for cls in type(optimizer).__mro__ for name in getattr(cls, "__slots__", ()))
    held = [*_attributes(optimizer).values(), *(getattr(optimizer, name, None) for name in slots)]
    for one in held:
        several = one.values() if isinstance(one, dict) else one if isinstance(one, (list, tuple)) else (one,)
        yield from (each for each in several if is_optimizer(each))


def holds(given: Any) -> str:
    """The optimizers in the attributes of what is none, or passes for none, in a sentence; "" where there are none."""
    found = [f"{type(one).__name__} in .{name}" for name, one in _attributes(given).items() if is_optimizer(one)]
    return f" It holds {', '.join(found)}." if found else ""


def _attributes(given: Any) -> Mapping[str, Any]:
    attributes: Mapping[str, Any] = getattr(given, "__dict__", {})
    return attributes


def _decays(optimizer: Any) -> bool:
    return any(group.get("weight_decay") for group in _groups(optimizer))


def _weights(optimizers: Iterable[Any]) -> set[int]:
    return {id(param) for one in optimizers for group in _groups(one) for param in group["params"]}
