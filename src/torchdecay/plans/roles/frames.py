"""What is known while a function is read: its local variables, and what it is called with."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

from torch.autograd import Function

from torchdecay.plans.roles.values import CONSTANT, FOREIGN, Value, either, side_by_side, together

SELF = Value(target="self")


class Frame:
    """The local variables of one function while it is read."""

    def __init__(self, function: Any, kind: type | None, self_name: str, outer: Frame | None = None) -> None:
        self.globals: Mapping[str, Any] = function if isinstance(function, Mapping) else function.__globals__
        self.closure = {} if isinstance(function, Mapping) else _closure(function)
        self.kind, self.self_name, self.outer = kind, self_name, outer
        self.local: dict[str, Value] = {}
        self.returned: list[Value] = []

    def look_up(self, name: str) -> Value | None:
        """A local variable, of the function around too."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.local:
                return frame.local[name]
            frame = frame.outer
        return None


class Local(NamedTuple):
    """A lambda or a function that is defined inside another."""

    node: ast.Lambda | ast.FunctionDef
    frame: Frame


class Partial(NamedTuple):
    """functools.partial of something, with what it was given."""

    target: ast.expr
    frame: Frame


class Bound(NamedTuple):
    """A function whose first argument is none of the caller's: a forward, the `apply` of an autograd function."""

    function: Any


def attribute_of(holder: Any, name: str) -> Any:
    """What a Python module or a class holds under a name; under `apply` of an autograd function it is its forward."""
    if isinstance(holder, ModuleType):
        return getattr(holder, name, None)
    if not isinstance(holder, type):
        return None
    if name == "apply" and issubclass(holder, Function):
        return Bound(getattr(vars(holder).get("forward"), "__func__", None))
    found = inspect.getattr_static(holder, name, None)
    return getattr(found, "__func__", found)


@lru_cache(maxsize=1 << 14)
def parsed(function: Any) -> ast.FunctionDef | None:
    """The syntax tree of a function; None where its source can't be read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError, RecursionError):
        return None
    return tree.body[0] if tree.body and isinstance(tree.body[0], ast.FunctionDef) else None


def bind_arguments(
    frame: Frame, args: ast.arguments, given: Sequence[Value], named: Mapping[str, Value], *, called: bool = True
) -> None:
    """The arguments of a function that is called here; the defaults of one that is not may be anything."""
    positional = [*args.posonlyargs, *args.args]
    defaults = {one.arg for one in positional[len(positional) - len(args.defaults) :]} if args.defaults else set()
    defaults |= {one.arg for one, value in zip(args.kwonlyargs, args.kw_defaults, strict=True) if value is not None}
    for place, one in enumerate([*positional, *args.kwonlyargs]):
        is_positional = place < len(positional)
        value = named.get(one.arg)
        if value is None:
            absent = CONSTANT if called and one.arg in defaults else FOREIGN
            value = given[place] if is_positional and place < len(given) else absent
        frame.local[one.arg] = value
    if args.vararg is not None:
        rest = tuple(given[len(positional) :])
        frame.local[args.vararg.arg] = together(rest) if rest else FOREIGN
    if args.kwarg is not None:
        frame.local[args.kwarg.arg] = FOREIGN


def returned_by(frame: Frame) -> Value:
    """What a function returns, whichever of its returns it takes."""
    if not frame.returned:
        return FOREIGN
    columns = side_by_side(frame.returned)
    return either(frame.returned) if columns is None else together(map(either, columns))


def _closure(function: Any) -> dict[str, Any]:
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    found: dict[str, Any] = {}
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found
