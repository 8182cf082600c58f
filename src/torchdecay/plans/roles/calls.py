"""What a call gives: of a method, a function that is found, a child module, or what can't be read."""

from __future__ import annotations

import ast
import inspect
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from torchdecay.plans.roles import operations
from torchdecay.plans.roles.expressions import Expressions
from torchdecay.plans.roles.frames import (
    SELF,
    Bound,
    Frame,
    Local,
    Partial,
    attribute_of,
    bind_arguments,
    parsed,
    returned_by,
)
from torchdecay.plans.roles.syntax import pattern_of
from torchdecay.plans.roles.values import CONSTANT, FOREIGN, Value, mixed, side_by_side, together
from torchdecay.plans.roles.words import words

_DEPTH, _CALLS = 5, 200
"""How deep functions are followed, and how many of them for one class."""


class Calls(Expressions):
    """Reads calls.

    Args:
        kind: the module class.
        natures: of children that are called with a parameter, what they do with it: "function" for one without
            parameters, "squashing" for a softmax and its like, "layer" for one with parameters, or a function to read.

    Attributes:
        asked: children that are called with a parameter.
    """

    def __init__(self, kind: type, natures: Mapping[str, Any]) -> None:
        super().__init__()
        self.kind, self.natures = kind, natures
        self.asked: set[str] = set()
        self._stack: list[Any] = []
        self._calls = 0
        self._returns: dict[Any, Value] = {}

    @abstractmethod
    def body(self, statements: Iterable[ast.stmt], frame: Frame) -> None:
        """Statements one after the other; of loops one round."""

    def run(
        self,
        function: Any,
        tree: ast.FunctionDef,
        given: Sequence[Value],
        named: Mapping[str, Value],
        kind: type | None,
    ) -> Value:
        """What a function returns for these arguments; arguments that are not given are constants or foreign."""
        if function in self._stack or len(self._stack) >= _DEPTH or self._calls >= _CALLS:
            return mixed([FOREIGN])
        self._calls += 1
        self._stack.append(function)
        known = given[0] is SELF if given else False
        positional = [*tree.args.posonlyargs, *tree.args.args]
        frame = Frame(function, kind, positional[0].arg if known and positional else "")
        bind_arguments(frame, tree.args, given, named, called=len(self._stack) > 1)
        self.body(tree.body, frame)
        self._stack.pop()
        return returned_by(frame)

    def call_method(self, function: Any, given: Sequence[Value], named: Mapping[str, Value], *, bound: bool) -> Value:
        """A method of the class itself, or a property."""
        plain = not any(one.own or one.products for one in (*given, *named.values()))
        if plain and function in self._returns:
            return self._returns[function]
        tree = parsed(function)
        if tree is None:
            return mixed([FOREIGN])
        if plain:
            self._returns[function] = FOREIGN
        made = self.run(function, tree, [SELF, *given] if bound else given, named, self.kind)
        if plain:
            self._returns[function] = made
        return made

    def call_local(self, local: Local, given: Sequence[Value], named: Mapping[str, Value]) -> Value:
        """A lambda, or a function that is defined where it is called."""
        if local.node in self._stack or len(self._stack) >= 2 * _DEPTH or self._calls >= _CALLS:
            return FOREIGN
        self._calls += 1
        self._stack.append(local.node)
        frame = Frame(local.frame.globals, local.frame.kind, local.frame.self_name, local.frame)
        bind_arguments(frame, local.node.args, given, named)
        if isinstance(local.node, ast.Lambda):
            made = self.value(local.node.body, frame)
        else:
            self.body(local.node.body, frame)
            made = returned_by(frame)
        self._stack.pop()
        return made

    def _call(self, node: ast.Call, frame: Frame) -> Value:
        """What a call gives, its arguments read first."""
        name, receiver, target = self._callee(node.func, frame)
        given: list[Value] = []
        for one in node.args:
            value = self.value(one, frame)
            if isinstance(one, ast.Starred):
                given += value.items if value.items is not None else [value]
            else:
                given.append(value)
        named = {word.arg or "**": self.value(word.value, frame) for word in node.keywords}
        held = node.func.value if isinstance(node.func, ast.Attribute) else None
        if name in operations.GROWING and isinstance(held, ast.Name):
            self._grow(held.id, given, frame)
        if name == "partial" and node.args:
            return CONSTANT._replace(target=Partial(node.args[0], frame))
        return self.call(name, receiver, target, given, named, node, frame)

    def _grow(self, name: str, given: Sequence[Value], frame: Frame) -> None:
        """A local list that gets another item."""
        there = frame.look_up(name)
        if there is not None:
            known = (*there.items, *given) if there.items is not None else None
            frame.local[name] = mixed([there, *given])._replace(items=known)

    def _callee(self, node: ast.expr, frame: Frame) -> tuple[str, Value | None, Any]:
        """The last name of what is called, the value whose method it is, and what it runs."""
        if isinstance(node, ast.Name):
            there = self.value(node, frame)
            return node.id, None, (there.path and there) or there.target
        if isinstance(node, ast.Attribute):
            base = self.value(node.value, frame)
            if base.target == "self":
                found = inspect.getattr_static(frame.kind, node.attr, None) if frame.kind is not None else None
                if isinstance(found, (staticmethod, classmethod)) or inspect.isfunction(found):
                    self.seen[node.attr] = self.seen.get(node.attr, 0) + 1
                    return node.attr, None, found
                return node.attr, None, self.of_self(node.attr, frame)
            if base.target is not None and not base.own:
                return node.attr, None, attribute_of(base.target, node.attr)
            return node.attr, base, None
        there = self.value(node, frame)
        name = getattr(there.target, "__name__", "") if isinstance(there.target, type) else ""
        return name.lower(), None, there if there.path else there.target

    def call(
        self,
        name: str,
        receiver: Value | None,
        target: Any,
        given: list[Value],
        named: dict[str, Value],
        node: ast.Call,
        frame: Frame,
    ) -> Value:
        """What a call gives, with a note of what it does with the attributes that are handed over."""
        everything = [*([receiver] if receiver is not None else []), *given, *named.values()]
        if isinstance(target, Local):
            return self.call_local(target, given, named)
        if isinstance(target, Partial):
            if target in self._stack:
                return FOREIGN
            self._stack.append(target)
            inner = ast.Call(func=target.target, args=node.args, keywords=node.keywords)
            called, held, runs = self._callee(target.target, target.frame)
            result = self.call(called, held, runs, given, named, inner, frame)
            self._stack.pop()
            return result
        if isinstance(target, Value):
            return self._call_child(target, given, named)
        if isinstance(target, staticmethod):
            return self.call_method(inspect.unwrap(target.__func__), given, named, bound=False)
        if isinstance(target, classmethod):
            return self.call_method(inspect.unwrap(target.__func__), [FOREIGN, *given], named, bound=False)
        own: Any = None if frame.kind is None else inspect.getattr_static(frame.kind, name, None)
        if inspect.isfunction(target) and own is target and receiver is None:
            if target.__module__.partition(".")[0] == "torch":
                return FOREIGN
            return self.call_method(inspect.unwrap(target), given, named, bound=True)
        if name in ("map", "zip", "enumerate", "reversed", "sorted", "list", "tuple", "getattr"):
            return self._builtin(name, given, node, frame)
        made = self.known(name, receiver, given, named, node)
        if made is not None:
            return made
        if isinstance(target, Bound):
            return self._call_function(target.function, [FOREIGN, *given], named)
        if inspect.isfunction(target) and any(one.own or one.products for one in everything):
            return self._call_function(inspect.unwrap(target), given, named)
        if isinstance(target, type) and issubclass(target, nn.Module):
            return CONSTANT._replace(target=target)
        return self._unread(name, given, named, everything)

    def _call_function(self, function: Any, given: Sequence[Value], named: Mapping[str, Value]) -> Value:
        """A function of another module than torch's, or a kernel that can't be read."""
        function = getattr(function, "__func__", function)
        tree = parsed(function) if _is_readable(function) else None
        if tree is None:
            return self._unread(getattr(function, "__name__", ""), given, named, [*given, *named.values()])
        return self.run(function, tree, given, named, None)

    def _call_child(self, child: Value, given: Sequence[Value], named: Mapping[str, Value]) -> Value:
        """A child module, or a function that the instance holds."""
        everything = [*given, *named.values()]
        if not everything:
            # A module that takes nothing gives what it holds.
            return child._replace(target=None)
        if not any(one.own for one in everything):
            return FOREIGN if any(one.foreign for one in everything) else mixed(everything)
        self.asked.add(child.path)
        nature = self.natures.get(child.path, "")
        if nature == "squashing":
            return self.squash(mixed(everything))
        if nature == "function":
            return mixed(everything)
        if nature == "layer":
            self.note(given[0] if given else FOREIGN, "input")
            for word, one in named.items():
                self.note(one, "input" if word in operations.INPUTS else "")
            return FOREIGN
        if isinstance(nature, Bound):
            return self._call_function(nature.function, [FOREIGN, *given], named)
        if inspect.isfunction(nature):
            return self._call_function(nature, given, named)
        return self._unread(child.path.rpartition(".")[2], given, named, everything)

    def _unread(
        self, name: str, given: Sequence[Value], named: Mapping[str, Value], everything: Sequence[Value]
    ) -> Value:
        """What can't be read: a function of what it is given, of the sort that its name says."""
        made = mixed(everything) if everything else FOREIGN
        if made.foreign and name:
            for word, one in named.items():
                self.note(one, "bias" if word == "bias" else "")
            said = set(words(name)) | {name}
            use = next((use for use, known in operations.KERNELS.items() if known & said), "")
            for one in (*given, *(one for word, one in named.items() if word not in ("bias", "eps"))):
                self.note(one, use)
        return made

    def _builtin(self, name: str, given: Sequence[Value], node: ast.Call, frame: Frame) -> Value:
        if name == "getattr":
            word = node.args[1] if len(node.args) > 1 else None
            known = pattern_of(word) if word is not None else ""
            return self.of_self(known, frame) if known and given and given[0].target == "self" else FOREIGN
        if name == "map" and len(node.args) >= 2:
            several = given[1].items if given[1].items is not None and len(given) == 2 else None
            made = [
                self._apply(node.args[0], one, frame) for one in (several or [[self.element(v) for v in given[1:]]])
            ]
            return together(made) if several else made[0]
        if name == "enumerate" and given:
            return mixed(given)._replace(items=(together([CONSTANT, self.element(given[0])]),))
        if name == "zip":
            if (rows := side_by_side(given)) is not None:
                return mixed(given)._replace(items=tuple(map(together, rows)))
            return mixed(given)._replace(items=(together([self.element(one) for one in given]),))
        return given[0]._replace(target=None) if given else CONSTANT

    def _apply(self, function: ast.expr, given: Any, frame: Frame) -> Value:
        """What map gives for one item."""
        values = [given] if isinstance(given, Value) else list(given)
        name, receiver, target = self._callee(function, frame)
        if isinstance(function, (ast.Lambda, ast.Call)):
            target = self.value(function, frame).target
        inner = ast.Call(func=function, args=[], keywords=[])
        return self.call(name, receiver, target, values, {}, inner, frame)


def _is_readable(function: Any) -> bool:
    home = function.__module__ if inspect.isfunction(function) else None
    return home is not None and home.partition(".")[0] not in ("torch", "numpy", "math")
