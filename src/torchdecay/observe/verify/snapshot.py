"""Remember all that an optimizer holds, and put it back: attributes, containers, state, generators, plan at work."""

from __future__ import annotations

import collections
import functools
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay.apply.handle import Handle, handle_of
from torchdecay.observe.verify.hooks import hooks_around
from torchdecay.sharding import local

_CONTAINERS = (dict, list, set, collections.deque)
_LEAVES = (str, bytes, int, float, complex, bool, type(None), type, nn.Module, torch.dtype, torch.device)


class Snapshot:
    """What an optimizer, the optimizers inside it and their handles hold; `restore` puts it back, often if need be.

    Containers are put back in place, so that whoever shares one with the optimizer sees no difference. Tensors are
    only listed: whoever lends others in their place puts them back. The random number generators of torch, Python and
    numpy, and hooks around every optimizer's step, are put back too.

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
        self._restorers: list[Callable[[], object]] = []
        self._seen: set[int] = set()
        self._visit(optimizer)
        self._visit(optimizer.param_groups)
        params = [param for one in self.optimizers for group in one.param_groups for param in group["params"]]
        for param in params:
            self._keep(vars(param))
        for _, hooks in hooks_around(self.optimizers):
            self._keep(hooks)
        self._restorers += rewinders({local(param).device for param in params})

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
            self._restorers.append(functools.partial(item.set_state, item.get_state()))
        elif isinstance(item, _CONTAINERS):
            return self._keep(item)
        elif isinstance(item, tuple):
            return item
        elif item is self.optimizers[0] or isinstance(item, Optimizer):
            return self._enter(item)
        elif self._is_part(item):
            return self._keep(vars(item))
        return ()

    def _enter(self, optimizer: Any) -> Iterable[object]:
        if optimizer is not self.optimizers[0]:
            self.optimizers.append(optimizer)
        attributes = self._keep(vars(optimizer))
        state = vars(optimizer).get("state")
        if isinstance(state, dict):
            # Per parameter the state is swapped as a whole, so what is inside it stays untouched.
            self._seen.add(id(state))
            self._keep(state)
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

    def _keep(self, container: Any) -> list[object]:
        """Remember what a container holds, and return it."""
        before = dict(container) if isinstance(container, dict) else list(container)
        add = getattr(container, "extend", None) or container.update

        def put_back() -> None:
            if list(map(id, _held(container))) != list(map(id, _held(before))):
                container.clear()
                add(before)

        self._restorers.append(put_back)
        return list(before.values()) if isinstance(before, dict) else before


def _held(container: Any) -> list[object]:
    return [*container, *container.values()] if isinstance(container, dict) else [*container]


def rewinders(devices: set[torch.device]) -> Iterator[Callable[[], object]]:
    """What puts the random number generators back that a step may draw from."""
    yield functools.partial(torch.set_rng_state, torch.get_rng_state())
    for device in devices:
        module: Any = None if device.type in ("cpu", "meta") else torch.get_device_module(device)
        if hasattr(module, "get_rng_state"):
            yield functools.partial(module.set_rng_state, module.get_rng_state(device), device)
    yield functools.partial(random.setstate, random.getstate())
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        yield functools.partial(numpy_random.set_state, numpy_random.get_state())
