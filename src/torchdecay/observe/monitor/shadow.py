"""A step of an optimizer's own rule beside the real one: taken by copies, of which nothing is the user's.

The copies hold some of the weights, and their gradients, state, groups and attributes. Called is the class's `step`
without any hooks. What a step changes outside the optimizer is put back: random number generators, attributes of the
class, and what its functions read from their module.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import optimizer as _torch_optimizer

from torchdecay.apply.stepping import STEP_WRAPPER
from torchdecay.observe.groups import switch_off
from torchdecay.observe.verify.hooks import replaces_step
from torchdecay.observe.verify.snapshot import rewinders
from torchdecay.optimizers.cards import card_of
from torchdecay.text import describe_error

MOST_BYTES = 1 << 29
"""What the copies of one record may take, 512 MiB: weights, gradients and state, twice."""
_PLAIN = (bool, int, float, str, bytes, complex, type(None), dict, list, set, deque)
_GLOBAL_HOOKS = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")


class UncopiedError(Exception):
    """Why no copy of an optimizer can take a step."""


@dataclass(eq=False)
class Copy:
    """A tensor that takes part in a step beside the real one.

    Attributes:
        group: index of the parameter group.
        weight: the tensor.
        state: what the optimizer knows of it; None before its first step.
        of: the parameter that it is a copy of; None where it has elements of several.
    """

    group: int
    weight: Parameter
    state: dict[str, Any] | None
    of: Tensor | None = None

    def again(self) -> Copy:
        """A copy of the copy."""
        own = self.state
        state = None if own is None else {
            key: value.clone() if isinstance(value, Tensor) else copy.deepcopy(value) for key, value in own.items()
        }  # fmt: skip
        return Copy(self.group, like(self.weight, self.weight.detach().clone()), state, self.weight)


class Shadow:
    """A copy of an optimizer that holds copies of some of its weights.

    Args:
        optimizer: whose.
        copies: of its weights.

    Raises:
        UncopiedError: the optimizer can't be copied, or its object has a step that its class has not.
    """

    def __init__(self, optimizer: Any, copies: Sequence[Copy]) -> None:
        if replaces_step(optimizer):
            raise UncopiedError("its object has a step of its own, which is not that of its class")
        self._copies = copies
        self._is_known = card_of(optimizer) is not None
        try:
            self._twin = _twin(optimizer, copies, is_known=self._is_known)
        except UncopiedError:
            raise
        except Exception as error:
            raise UncopiedError(f"it can't be copied: {describe_error(error)}") from error

    def steps(
        self,
        given: Sequence[Tensor | None],
        bare: Sequence[Tensor | None],
        starts: Sequence[Tensor | None],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Where the weights end after a step from here, and after one without weight decay.

        Args:
            given: the gradients of the copies, as the optimizer is given them; None where there is none.
            bare: the same without any decay in them.
            starts: weights without any decay in them, where they are others.

        Raises:
            UncopiedError: a step raised.
        """
        others = [one.again() for one in self._copies]
        other = _twin(self._twin, others, is_known=self._is_known)
        for names in (vars(other), other.defaults, *other.param_groups):
            switch_off(names)
        # A scaler's steps may write into gradients.
        for one, gradient in zip(others, bare, strict=True):
            shared = gradient is not None and any(gradient is own for own in given)
            one.weight.grad = gradient.clone() if shared and gradient is not None else gradient
        for one, start in zip(others, starts, strict=True):
            if start is not None:
                one.weight.data.copy_(start)
        for one, gradient in zip(self._copies, given, strict=True):
            one.weight.grad = gradient
        for twin in (self._twin, other):
            self._step(twin)
        return [one.weight.detach() for one in self._copies], [one.weight.detach() for one in others]

    def _step(self, twin: Any) -> None:
        step = type(twin).step
        if is_bare := getattr(step, "__code__", None) is STEP_WRAPPER:
            step = step.__wrapped__
        is_safe = self._is_known and is_bare
        takes = [] if is_safe else _needed(step)
        with ExitStack() as stack:
            if not is_safe:
                stack.enter_context(_undone(type(twin), {one.weight.device for one in self._copies}))
                stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            try:
                step(twin, **dict.fromkeys(takes, lambda: torch.zeros(())))
            except Exception as error:
                raise UncopiedError(f"its step on copies raised {describe_error(error)}") from error


def like(param: Tensor, values: Tensor) -> Parameter:
    """Values as a parameter, with what is written on another: a step may write into its tensors, so they are copies."""
    made = Parameter(values, requires_grad=param.requires_grad)
    made.__dict__.update((name, _own(value)) for name, value in getattr(param, "__dict__", {}).items())
    return made


def _own(value: Any) -> Any:
    """A tensor, or a plain container with those in it, as a copy; another object, as a process group, is the same."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) is dict:
        return {key: _own(one) for key, one in value.items()}
    return [_own(one) for one in value] if type(value) is list else value


def weigh(*values: Any) -> int:
    """How many bytes the tensors in some values have."""
    total, waiting = 0, list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            total += value.numel() * value.element_size()
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple, set, deque)):
            waiting.extend(value)
    return total


def _twin(optimizer: Any, copies: Sequence[Copy], *, is_known: bool) -> Any:
    """An optimizer of the same class over the copies."""
    made = object.__new__(type(optimizer))
    state: dict[Any, Any] = defaultdict(dict)
    groups: list[dict[str, Any]] = [{} for _ in optimizer.param_groups]
    memo: dict[int, Any] = {id(optimizer): made, id(optimizer.state): state, id(optimizer.param_groups): groups}
    for group, was in zip(groups, optimizer.param_groups, strict=True):
        memo[id(was)] = group
    memo |= {id(one.of): one.weight for one in copies if one.of is not None}
    copied = partial(_copied, is_known=is_known, memo=memo)
    for index, (group, was) in enumerate(zip(groups, optimizer.param_groups, strict=True)):
        # In their order: rules add up along it, and keep lists of their own beside it.
        places = {id(param): place for place, param in enumerate(was["params"])}
        own = [one for one in copies if one.group == index]
        own.sort(key=lambda one: places.get(id(one.of), 0))
        for key, value in was.items():
            group[key] = [one.weight for one in own] if key == "params" else copied(value)
        if "param_names" in group:
            group["param_names"] = [str(place) for place in range(len(own))]
    for one in copies:
        if one.state is not None:
            state[one.weight] = one.state
    attributes = vars(optimizer)
    if not is_known:
        left = {id(param) for group in optimizer.param_groups for param in group["params"]} - memo.keys()
        memo |= {key: torch.empty(0) for key in left}
        memo |= {id(value): value for value in attributes.values() if isinstance(value, nn.Module)}
        _refuse_heavy(attributes, memo)
        for key in optimizer.state:
            if not isinstance(key, Tensor):
                state[key] = copied(optimizer.state[key])
    skipped = {"state", "param_groups", "step"}
    for name, value in attributes.items():
        if name.startswith("_optimizer_") and name.endswith("_hooks"):
            made.__dict__[name] = OrderedDict()
        elif name not in skipped:
            made.__dict__[name] = copied(value)
    made.__dict__.update(state=state, param_groups=groups)
    if is_known:
        # Weights of copies are leaves, and nobody asks for gradients through their steps.
        for names in (made.defaults, *groups):
            names.update(dict.fromkeys({"differentiable"} & names.keys(), False))
    return made


def _copied(value: Any, *, is_known: bool, memo: dict[int, Any]) -> Any:
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    if isinstance(value, Tensor):
        return memo[id(value)] if id(value) in memo else value.detach().clone()
    if isinstance(value, torch.Generator):
        return value.clone_state()
    # Classes that are known keep nothing but their defaults there, and don't write into those.
    return copy.copy(value) if is_known else copy.deepcopy(value, memo)


def _refuse_heavy(attributes: Mapping[str, Any], memo: Mapping[int, Any]) -> None:
    held = [value for name, value in attributes.items() if name != "state" and id(value) not in memo]
    if (size := weigh(*held)) > MOST_BYTES // 2:
        raise UncopiedError(f"it holds {size >> 20:,} MiB beside its state, of which a record copies no more than "
                            f"{MOST_BYTES >> 21:,}")  # fmt: skip


def _needed(step: Any) -> list[str]:
    """What a step has to be called with, by name: a closure, which is told nothing new."""
    takes = list(inspect.signature(step).parameters.values())[1:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [one.name for one in takes if one.default is one.empty and one.kind in named]


@contextmanager
def _undone(cls: type, devices: set[torch.device]) -> Iterator[None]:
    """What a step changes outside its optimizer is as it was, also when it raises; hooks of all optimizers sleep."""
    put_back: list[Callable[[], object]] = [*rewinders(devices), *_outside(cls)]
    hooks = {name: getattr(_torch_optimizer, name) for name in _GLOBAL_HOOKS}
    for name in hooks:
        setattr(_torch_optimizer, name, OrderedDict())
    try:
        yield
    finally:
        for name, own in hooks.items():
            setattr(_torch_optimizer, name, own)
        for undo in put_back:
            undo()


def _outside(cls: type) -> Iterator[Callable[[], object]]:
    """What puts back the attributes of the class, and plain values and containers that its functions read."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] in ("torch", "builtins"):
            continue
        own = {name: value for name, value in vars(base).items() if isinstance(value, _PLAIN)}
        yield partial(_rebind, partial(setattr, base), vars(base), own)
        yield from map(_refill, own.values())
        for function in _functions(base):
            cells = [cell for cell in function.__closure__ or () if _is_filled(cell)]
            yield from (partial(setattr, cell, "cell_contents", cell.cell_contents) for cell in cells)
            yield from (_refill(cell.cell_contents) for cell in cells)
            scope = function.__globals__
            names = _read(function.__code__) & scope.keys()
            read = {name: scope[name] for name in names if isinstance(scope[name], _PLAIN)}
            yield partial(_rebind, scope.__setitem__, scope, read)
            yield from map(_refill, read.values())


def _functions(cls: type) -> Iterator[FunctionType]:
    """The functions of a class, and those of its module that they call."""
    for value in vars(cls).values():
        function = value
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        function = getattr(function, "__func__", function)
        if isinstance(function, FunctionType):
            yield function
            called = (function.__globals__.get(name) for name in _read(function.__code__))
            yield from (
                one for one in called if isinstance(one, FunctionType) and one.__module__ == function.__module__
            )


def _read(code: CodeType) -> set[str]:
    inner = (one for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*map(_read, inner))


def _is_filled(cell: Any) -> bool:
    try:
        return isinstance(cell.cell_contents, _PLAIN)
    except ValueError:
        return False


def _rebind(write: Callable[[str, Any], object], now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    for name, value in before.items():
        if now.get(name) is not value:
            write(name, value)


def _refill(container: Any) -> Callable[[], object]:
    """What fills a container with what it holds now."""
    if not isinstance(container, (dict, list, set, deque)):
        return lambda: None
    held = copy.copy(container)

    def refill() -> None:
        if [*map(id, _items(container))] != [*map(id, _items(held))]:
            container.clear()
            add: Any = container.extend if isinstance(container, (list, deque)) else container.update
            add(held)

    return refill


def _items(container: Any) -> Iterable[Any]:
    return [*container, *container.values()] if isinstance(container, dict) else container
