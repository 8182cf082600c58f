"""Remember all that an optimizer holds, and put it back: attributes, containers, state, generators, plan at work."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay.apply.handle import Handle, handle_of

_CONTAINERS = (dict, list, set, collections.deque)
_LEAVES = (str, bytes, int, float, complex, bool, type(None), type, nn.Module, torch.dtype, torch.device)


class Snapshot:
    """What an optimizer, the optimizers inside it and their handles hold; `restore` puts it back, often if need be.

    Containers are put back in place, so that whoever shares one with the optimizer sees no difference. Tensors are
    only listed: whoever lends others in their place puts them back.

    Args:
        optimizer: a torch optimizer, or any object with `param_groups` and `step`.

    Attributes:
        optimizers: the optimizer and every one that it holds.
        handles: the attached plans among them.
        tensors: every tensor that was reached, parameters included, each once; none of the optimizers' `state`.
    """

    def __init__(self, optimizer: Any) -> None:
        self.optimizers: list[Any] = [optimizer]
        self.handles: list[Handle] = []
        self.tensors: list[Tensor] = []
        self._restorers: list[Callable[[], None]] = []
        self._seen: set[int] = set()
        self._visit(optimizer)
        self._visit(optimizer.param_groups)
        for param in _params(self.optimizers):
            self._keep_attributes(param)

    def restore(self) -> None:
        """Put everything back as it was when the snapshot was made."""
        for put_back in self._restorers:
            put_back()

    def _visit(self, start: object) -> None:
        waiting = [start]
        while waiting:
            item = waiting.pop()
            if isinstance(item, _LEAVES) or id(item) in self._seen:
                continue
            self._seen.add(id(item))
            waiting.extend(self._look_at(item))

    def _look_at(self, item: Any) -> Iterable[object]:
        """Remember one object, and say what to look at next."""
        if isinstance(item, Tensor):
            self.tensors.append(item)
        elif isinstance(item, torch.Generator):
            self._restorers.append(_rewinder(item))
        elif isinstance(item, _CONTAINERS):
            self._restorers.append(_restorer(item))
            return list(item.values()) if isinstance(item, dict) else list(item)
        elif isinstance(item, tuple):
            return item
        elif item is self.optimizers[0] or isinstance(item, Optimizer):
            return self._enter(item)
        elif self._is_part(item):
            return self._keep_attributes(item)
        return ()

    def _enter(self, optimizer: Any) -> Iterable[object]:
        if optimizer is not self.optimizers[0]:
            self.optimizers.append(optimizer)
        attributes = self._keep_attributes(optimizer)
        state = vars(optimizer).get("state")
        if isinstance(state, dict):
            # Per parameter the state is swapped as a whole, so what is inside it stays untouched.
            self._seen.add(id(state))
            self._restorers.append(_restorer(state))
        handle = handle_of(optimizer) if isinstance(optimizer, Optimizer) else None
        if handle is not None:
            self.handles.append(handle)
        return [*attributes, handle]

    def _is_part(self, item: object) -> bool:
        """Whether an object belongs to the optimizer: ours, or from the file that defines the optimizer's class."""
        parameters = getattr(type(item), "__dataclass_params__", None)
        if not hasattr(item, "__dict__") or callable(item) or (parameters is not None and parameters.frozen):
            return False
        home = type(item).__module__
        own = {type(one).__module__ for one in self.optimizers} - {"builtins"}
        return home.partition(".")[0] == __name__.partition(".")[0] or home in own

    def _keep_attributes(self, item: Any) -> list[object]:
        attributes = vars(item)
        before = dict(attributes)

        def put_back() -> None:
            if list(attributes) != list(before) or any(attributes[k] is not v for k, v in before.items()):
                attributes.clear()
                attributes.update(before)

        self._restorers.append(put_back)
        return list(before.values())


def _rewinder(generator: torch.Generator) -> Callable[[], None]:
    state = generator.get_state()

    def rewind() -> None:
        generator.set_state(state)

    return rewind


def _restorer(container: Any) -> Callable[[], None]:
    if isinstance(container, dict):
        before = dict(container)

        def put_back() -> None:
            if len(container) != len(before) or any(
                old is not new for old, new in zip(_pairs(container), _pairs(before), strict=True)
            ):
                container.clear()
                container.update(before)

        return put_back
    items = list(container)

    def refill() -> None:
        if isinstance(container, list):
            container[:] = items
        elif isinstance(container, set):
            container.clear()
            container.update(items)
        else:
            container.clear()
            container.extend(items)

    return refill


def _pairs(mapping: dict[Any, Any]) -> Iterable[object]:
    for key, value in mapping.items():
        yield key
        yield value


def _params(optimizers: Iterable[Any]) -> Iterable[Tensor]:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            yield from group["params"]
