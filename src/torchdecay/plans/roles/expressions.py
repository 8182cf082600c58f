"""What an expression is, with a note of every use in it."""

from __future__ import annotations

import ast
import builtins
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from torchdecay.plans.roles import operations
from torchdecay.plans.roles.arithmetic import Arithmetic
from torchdecay.plans.roles.frames import SELF, Frame, Local, attribute_of
from torchdecay.plans.roles.syntax import by_position, has_root, is_none, number_of
from torchdecay.plans.roles.values import CONSTANT, FOREIGN, Value, attribute, either, mixed, together, viewed


class Expressions(Arithmetic, ABC):
    """Reads all expressions but calls.

    Attributes:
        seen: how often each attribute of self is named.
        indexed: how often rows of a child's weight are taken by position.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}
        self.indexed: dict[str, int] = {}

    @abstractmethod
    def call_method(self, function: Any, given: Sequence[Value], named: Mapping[str, Value], *, bound: bool) -> Value:
        """What a method of the class returns."""

    @abstractmethod
    def _call(self, node: ast.Call, frame: Frame) -> Value:
        """What a call gives."""

    def value(self, node: ast.expr, frame: Frame) -> Value:
        """What an expression is, with a note of every use in it."""
        # By kind of expression: of a name `_name` reads it.
        read = getattr(self, f"_{type(node).__name__.lower()}", None)
        if read is not None:
            made: Value = read(node, frame)
            return made
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child, frame)
        return FOREIGN

    def _constant(self, node: ast.Constant, frame: Frame) -> Value:
        return CONSTANT

    def _name(self, node: ast.Name, frame: Frame) -> Value:
        there = frame.look_up(node.id)
        if there is not None:
            return there
        if node.id == frame.self_name:
            return SELF
        missing = object()
        found = frame.closure.get(node.id, frame.globals.get(node.id, getattr(builtins, node.id, missing)))
        return FOREIGN if found is missing else CONSTANT._replace(target=found)

    def _attribute(self, node: ast.Attribute, frame: Frame) -> Value:
        base = self.value(node.value, frame)
        if base is SELF or base.target == "self":
            return self.of_self(node.attr, frame)
        if node.attr in operations.SIZE_ATTRIBUTES:
            return CONSTANT
        if base.path and node.attr not in operations.TENSOR_ATTRIBUTES:
            return attribute(f"{base.path}.{node.attr}")
        if isinstance(base.target, (ModuleType, type)):
            return CONSTANT._replace(target=attribute_of(base.target, node.attr))
        return viewed(base, base.trailing if node.attr in ("data", "real", "imag") else None)

    def of_self(self, name: str, frame: Frame) -> Value:
        """An attribute of the module, or what a property of it returns."""
        self.seen[name] = self.seen.get(name, 0) + 1
        found = inspect.getattr_static(frame.kind, name, None) if frame.kind is not None else None
        if isinstance(found, property) and found.fget is not None:
            return self.call_method(inspect.unwrap(found.fget), [], {}, bound=True)
        if type(found).__name__ == "cached_property":
            return self.call_method(found.func, [], {}, bound=True)  # type: ignore[union-attr]
        return attribute(name)

    def _subscript(self, node: ast.Subscript, frame: Frame) -> Value:
        base, index = self.value(node.value, frame), self.value(node.slice, frame)
        chosen = number_of(node.slice)
        if base.items is not None and chosen is not None and -len(base.items) <= chosen < len(base.items):
            return base.items[int(chosen)]
        if base.foreign:
            return base
        self._note_index(node, base, index)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        sliced = any(isinstance(part, ast.Slice) or is_none(part) for part in parts)
        if base.path and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            return attribute(f"{base.path}.{node.slice.value}")
        if base.path and not sliced and len(parts) == 1:
            return base._replace(target=None, items=None)
        behind = 0
        for part in reversed(parts):
            if not is_none(part):
                break
            behind += 1
        if behind == len(parts):
            behind = 0  # p[None]: what comes first stands in front.
        whole = all(isinstance(part, (ast.Slice, ast.Constant)) for part in parts)
        return viewed(base, base.trailing + behind if whole and base.trailing is not None else None)

    def _note_index(self, node: ast.Subscript, base: Value, index: Value) -> None:
        """Rows that are chosen: by a value that comes in, or by position."""
        if index.foreign:
            self.note(base, "indexed")
        child = next(iter(base.own), "").removesuffix(".weight")
        here = any(isinstance(one, ast.Attribute) and one.attr == child for one in ast.walk(node.value))
        if here and base.own == {f"{child}.weight"} and by_position(node.slice):
            self.indexed[child] = self.indexed.get(child, 0) + 1

    def _slice(self, node: ast.Slice, frame: Frame) -> Value:
        for part in (node.lower, node.upper, node.step):
            if part is not None:
                self.value(part, frame)
        return CONSTANT

    def _unaryop(self, node: ast.UnaryOp, frame: Frame) -> Value:
        value = self.value(node.operand, frame)
        return value._replace(path="", items=None, target=None)

    def _binop(self, node: ast.BinOp, frame: Frame) -> Value:
        left, right = self.value(node.left, frame), self.value(node.right, frame)
        if isinstance(node.op, ast.Pow) and left.foreign and number_of(node.right) == -0.5:
            self.flags.add("normed")
        if isinstance(node.op, ast.Div) and right.foreign and has_root(node.right):
            self.flags.add("normed")
        if isinstance(node.op, ast.Add):
            self.note_ones((left, right), (node.left, node.right))
        return self.operate(node.op, left, right, node.right)

    def _ifexp(self, node: ast.IfExp, frame: Frame) -> Value:
        self.value(node.test, frame)
        return either([self.value(node.body, frame), self.value(node.orelse, frame)])

    def _boolop(self, node: ast.BoolOp, frame: Frame) -> Value:
        return either([self.value(one, frame) for one in node.values])

    def _compare(self, node: ast.Compare, frame: Frame) -> Value:
        values = [self.value(one, frame) for one in (node.left, *node.comparators)]
        return FOREIGN if any(one.foreign for one in values) else CONSTANT

    def _tuple(self, node: ast.Tuple | ast.List, frame: Frame) -> Value:
        items: list[Value] = []
        for one in node.elts:
            value = self.value(one, frame)
            if isinstance(one, ast.Starred) and value.items is not None:
                items += value.items
            else:
                items.append(value)
        return together(items)

    _list = _tuple

    def _starred(self, node: ast.Starred, frame: Frame) -> Value:
        return self.value(node.value, frame)

    def _namedexpr(self, node: ast.NamedExpr, frame: Frame) -> Value:
        value = self.value(node.value, frame)
        self.bind(node.target, value, frame)
        return value

    def _lambda(self, node: ast.Lambda, frame: Frame) -> Value:
        return CONSTANT._replace(target=Local(node, frame))

    def _listcomp(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp, frame: Frame) -> Value:
        inner = Frame(frame.globals, frame.kind, frame.self_name, frame)
        first = self.value(node.generators[0].iter, frame)
        several = first.items if first.items is not None and len(node.generators) == 1 else None
        made = []
        for item in several if several else [self.element(first)]:
            self.bind(node.generators[0].target, item, inner)
            for more in node.generators[1:]:
                self.bind(more.target, self.element(self.value(more.iter, inner)), inner)
            for test in (test for one in node.generators for test in one.ifs):
                self.value(test, inner)
            made.append(self.value(node.elt, inner))
        return together(made) if several else made[0]._replace(path="", items=None)

    _setcomp = _generatorexp = _listcomp

    def bind(self, target: ast.expr, value: Value, frame: Frame) -> None:
        """Set what is left of an equals sign."""
        if isinstance(target, ast.Name):
            frame.local[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            whole = value.items if value.items is not None and len(value.items) == len(target.elts) else None
            parts = whole or [viewed(value, None)._replace(path=value.path)] * len(target.elts)
            for one, part in zip(target.elts, parts, strict=True):
                self.bind(one.value if isinstance(one, ast.Starred) else one, part, frame)
        elif isinstance(target, ast.Subscript):
            base = target.value
            while isinstance(base, ast.Subscript):
                base = base.value
            if isinstance(base, ast.Name) and frame.look_up(base.id) is not None:
                there = frame.look_up(base.id) or FOREIGN
                if there.foreign:
                    self.note(value, "joined")
                frame.local[base.id] = mixed([there, value])

    def element(self, value: Value) -> Value:
        """What a loop takes from a value."""
        if value.items is not None:
            return either(value.items) if value.items else FOREIGN
        return value if value.path else viewed(value, None)
