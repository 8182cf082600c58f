"""Reads the methods of a module class without running them, and notes what becomes of each attribute of self.

Values are followed through views, casts, indexing, local variables, loops, lambdas, properties, methods of the class
and functions of other modules than torch's; what can't be read, a kernel say, is told by the words in its name.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

from torch import nn
from torch.autograd import Function

from torchdecay.plans.roles import operations
from torchdecay.plans.roles.syntax import axes_of, by_position, has_root, is_none, number_of, pattern_of
from torchdecay.plans.roles.values import CONSTANT, FOREIGN, Value, attribute, either, mixed, squashed, viewed
from torchdecay.plans.roles.words import words

_DEPTH, _CALLS = 5, 200
"""How deep functions are followed, and how many of them for one class."""


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


SELF = Value(target="self")


class Reader:
    """Notes the uses of `self.<name>` in the methods of a class.

    Args:
        kind: the module class.
        natures: of children that are called with a parameter, what they do with it: "function" for one without
            parameters, "squashing" for a softmax and its like, "layer" for one with parameters, or a function to read.
    """

    def __init__(self, kind: type, natures: Mapping[str, Any]) -> None:
        self.kind, self.natures = kind, natures
        self.found: dict[str, set[str]] = {}
        self.asked: set[str] = set()
        self.indexed: dict[str, int] = {}
        self.seen: dict[str, int] = {}
        self._noted: dict[str, set[str]] = {}
        self._flags: set[str] = set()
        self._stack: list[Any] = []
        self._calls = 0
        self._returns: dict[Any, Value] = {}

    def read(self, method: Any, returned: str = "") -> None:
        """Read one method; what it scales is noted as normed or filtered, if it normalizes or takes a spectrum.

        `returned` is the use of what it returns.
        """
        tree = parsed(method)
        if tree is None or not (tree.args.posonlyargs or tree.args.args):
            return
        self._noted, self._flags = {}, set()
        self.note(self._run(method, tree, [SELF], {}, self.kind), returned)
        for attribute_name, uses in self._noted.items():
            if "scaled" in uses:
                uses |= self._flags
            self.found.setdefault(attribute_name, set()).update(uses)

    # --- functions --------------------------------------------------------------------------------------------------

    def _run(
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
        _bind_arguments(frame, tree.args, given, named, called=len(self._stack) > 1)
        self.body(tree.body, frame)
        self._stack.pop()
        return _returned(frame)

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
        made = self._run(function, tree, [SELF, *given] if bound else given, named, self.kind)
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
        _bind_arguments(frame, local.node.args, given, named)
        if isinstance(local.node, ast.Lambda):
            made = self.value(local.node.body, frame)
        else:
            self.body(local.node.body, frame)
            made = _returned(frame)
        self._stack.pop()
        return made

    # --- statements -------------------------------------------------------------------------------------------------

    def body(self, statements: Iterable[ast.stmt], frame: Frame) -> None:
        """Statements one after the other; of loops one round."""
        for statement in statements:
            self.statement(statement, frame)

    def statement(self, node: ast.stmt, frame: Frame) -> None:
        """One statement."""
        if isinstance(node, ast.Assign):
            value = self.value(node.value, frame)
            for target in node.targets:
                self.bind(target, value, frame)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.bind(node.target, self.value(node.value, frame), frame)
        elif isinstance(node, ast.AugAssign):
            self._augment(node, frame)
        elif isinstance(node, ast.Return):
            if node.value is not None:
                frame.returned.append(self.value(node.value, frame))
        elif isinstance(node, ast.Expr):
            self.value(node.value, frame)
        elif isinstance(node, ast.For):
            self.bind(node.target, self.element(self.value(node.iter, frame)), frame)
            self.body([*node.body, *node.orelse], frame)
        elif isinstance(node, ast.While):
            self.value(node.test, frame)
            self.body([*node.body, *node.orelse], frame)
        elif isinstance(node, ast.If):
            self.value(node.test, frame)
            self._branch(node, frame)
        elif isinstance(node, ast.With):
            for item in node.items:
                self.value(item.context_expr, frame)
                if item.optional_vars is not None:
                    self.bind(item.optional_vars, FOREIGN, frame)
            self.body(node.body, frame)
        elif isinstance(node, ast.Try):
            self.body(node.body, frame)
            for handler in node.handlers:
                self.body(handler.body, frame)
            self.body([*node.orelse, *node.finalbody], frame)
        elif isinstance(node, ast.FunctionDef):
            frame.local[node.name] = CONSTANT._replace(target=Local(node, frame))

    def _branch(self, node: ast.If, frame: Frame) -> None:
        """Both branches; a variable that only one of them sets keeps what it was as well."""
        before = dict(frame.local)
        self.body(node.body, frame)
        then, frame.local = frame.local, dict(before)
        self.body(node.orelse, frame)
        for name in then.keys() | frame.local.keys():
            sides = [side[name] for side in (then, frame.local) if name in side]
            frame.local[name] = sides[0] if len(sides) == 1 or sides[0] == sides[1] else either(sides)

    def _augment(self, node: ast.AugAssign, frame: Frame) -> None:
        value = self.value(node.value, frame)
        there = self.value(node.target, frame)
        made = self._operate(node.op, there, value, node.value)
        if isinstance(node.target, ast.Name):
            frame.local[node.target.id] = made
        elif isinstance(node.target, ast.Subscript):
            self.bind(node.target, made, frame)

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

    # --- notes ------------------------------------------------------------------------------------------------------

    def note(self, value: Value, use: str) -> None:
        """A use of the attributes that a value is a function of; of what is squashed only that it is."""
        if not use or value.foreign:
            return
        for name in value.raw:
            self._noted.setdefault(name, set()).add(use)
        for name in value.squashed:
            self._noted.setdefault(name, set()).add("logits")

    # --- expressions ------------------------------------------------------------------------------------------------

    def value(self, node: ast.expr, frame: Frame) -> Value:
        """What an expression is, with a note of every use in it."""
        read = _READERS.get(type(node))
        if read is not None:
            return read(self, node, frame)
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
            return self._of_self(node.attr, frame)
        if node.attr in operations.SIZE_ATTRIBUTES:
            return CONSTANT
        if base.path and node.attr not in operations.TENSOR_ATTRIBUTES:
            return attribute(f"{base.path}.{node.attr}")
        if isinstance(base.target, (ModuleType, type)):
            found = inspect.getattr_static(base.target, node.attr, None)
            if isinstance(base.target, ModuleType):
                found = getattr(base.target, node.attr, None)
            if node.attr == "apply" and isinstance(base.target, type) and issubclass(base.target, Function):
                found = vars(base.target).get("forward")
            return CONSTANT._replace(target=getattr(found, "__func__", found))
        return viewed(base, base.trailing if node.attr in ("data", "real", "imag") else None)

    def _of_self(self, name: str, frame: Frame) -> Value:
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

    def _unary(self, node: ast.UnaryOp, frame: Frame) -> Value:
        value = self.value(node.operand, frame)
        return value._replace(path="", items=None, target=None)

    def _binary(self, node: ast.BinOp, frame: Frame) -> Value:
        left, right = self.value(node.left, frame), self.value(node.right, frame)
        if isinstance(node.op, ast.Pow) and left.foreign and number_of(node.right) == -0.5:
            self._flags.add("normed")
        if isinstance(node.op, ast.Div) and right.foreign and has_root(node.right):
            self._flags.add("normed")
        return self._operate(node.op, left, right, node.right)

    def _operate(self, op: ast.operator, left: Value, right: Value, divisor: ast.expr) -> Value:
        """An operator between two values."""
        sides = (left, right)
        if isinstance(op, ast.MatMult):
            return self._contracted(sides)
        if isinstance(op, ast.Mult):
            return self.multiply(sides)
        if isinstance(op, (ast.Div, ast.Pow)):
            # A parameter over its own norm is a function of the parameter.
            if left.foreign:
                self.note(right, "scaled")
            elif right.foreign and isinstance(op, ast.Div):
                self.note(left, "scaled")
            return mixed(sides, left.products | right.products)
        if isinstance(op, (ast.Add, ast.Sub)):
            if any(side.foreign for side in sides):
                for side in sides:
                    self.note(side, "added")
            if isinstance(op, ast.Add) and left.items is not None and right.items is not None:
                return mixed(sides)._replace(items=left.items + right.items)
            return _aligned(mixed(sides, left.products | right.products), sides)
        return mixed(sides)

    def multiply(self, sides: Sequence[Value]) -> Value:
        """An elementwise product; what comes in times a parameter may become a dot product by a sum."""
        if not _are_constant(sides):
            for side in sides:
                self.note(side, "scaled")
        pending = {pair for side in sides for pair in side.products}
        if any(side.foreign for side in sides):
            pending |= {(name, side.trailing) for side in sides if not side.foreign for name in side.raw}
        return _aligned(mixed(sides, frozenset(pending)), sides)

    def _contracted(self, sides: Sequence[Value], notes: tuple[str, str] = ("matmul", "matmul")) -> Value:
        """A matrix product with what comes in; one of parameters alone is noted where the result is used."""
        foreign = any(side.foreign for side in sides)
        for position, side in enumerate(sides):
            use = notes[1] if position else notes[0]
            self.note(side, use if foreign or use != "matmul" else "factor")
        return mixed(sides)

    def _either(self, node: ast.IfExp, frame: Frame) -> Value:
        self.value(node.test, frame)
        return either([self.value(node.body, frame), self.value(node.orelse, frame)])

    def _or(self, node: ast.BoolOp, frame: Frame) -> Value:
        return either([self.value(one, frame) for one in node.values])

    def _compared(self, node: ast.Compare, frame: Frame) -> Value:
        values = [self.value(one, frame) for one in (node.left, *node.comparators)]
        return FOREIGN if any(one.foreign for one in values) else CONSTANT

    def _several(self, node: ast.Tuple | ast.List, frame: Frame) -> Value:
        items: list[Value] = []
        for one in node.elts:
            value = self.value(one, frame)
            if isinstance(one, ast.Starred) and value.items is not None:
                items += value.items
            else:
                items.append(value)
        return mixed(items)._replace(items=tuple(items))

    def _starred(self, node: ast.Starred, frame: Frame) -> Value:
        return self.value(node.value, frame)

    def _named(self, node: ast.NamedExpr, frame: Frame) -> Value:
        value = self.value(node.value, frame)
        self.bind(node.target, value, frame)
        return value

    def _lambda(self, node: ast.Lambda, frame: Frame) -> Value:
        return CONSTANT._replace(target=Local(node, frame))

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp, frame: Frame) -> Value:
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
        return mixed(made)._replace(items=tuple(made)) if several else made[0]._replace(path="", items=None)

    # --- calls ------------------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call, frame: Frame) -> Value:
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
                return node.attr, None, self._of_self(node.attr, frame)
            if base.target is not None and not base.own:
                return node.attr, None, self._attribute_of(base, node.attr)
            return node.attr, base, None
        there = self.value(node, frame)
        name = getattr(there.target, "__name__", "") if isinstance(there.target, type) else ""
        return name.lower(), None, there if there.path else there.target

    def _attribute_of(self, base: Value, name: str) -> Any:
        target = base.target
        if isinstance(target, ModuleType):
            return getattr(target, name, None)
        if isinstance(target, type):
            if name == "apply" and issubclass(target, Function):
                return Bound(getattr(vars(target).get("forward"), "__func__", None))
            found = inspect.getattr_static(target, name, None)
            return getattr(found, "__func__", found)
        return None

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
        if inspect.isfunction(target) and _is_method_of(target, frame.kind, name) and receiver is None:
            if target.__module__.partition(".")[0] == "torch":
                return FOREIGN
            return self.call_method(inspect.unwrap(target), given, named, bound=True)
        if name in ("map", "zip", "enumerate", "reversed", "sorted", "list", "tuple", "getattr"):
            return self._builtin(name, given, node, frame)
        made = self._known(name, receiver, given, named, node)
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
        return self._run(function, tree, given, named, None)

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
            return self._squash(mixed(everything))
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
            return self._of_self(known, frame) if known and given and given[0].target == "self" else FOREIGN
        if name == "map" and len(node.args) >= 2:
            several = given[1].items if given[1].items is not None and len(given) == 2 else None
            made = [
                self._apply(node.args[0], one, frame) for one in (several or [[self.element(v) for v in given[1:]]])
            ]
            return mixed(made)._replace(items=tuple(made)) if several else made[0]
        if name == "enumerate" and given:
            return mixed(given)._replace(items=(self._pairs([CONSTANT, self.element(given[0])]),))
        if name == "zip":
            lengths = {len(one.items) if one.items is not None else -1 for one in given}
            if len(lengths) == 1 and lengths != {-1}:
                rows = zip(*(one.items or () for one in given), strict=True)
                return mixed(given)._replace(items=tuple(map(self._pairs, rows)))
            return mixed(given)._replace(items=(self._pairs([self.element(one) for one in given]),))
        return given[0]._replace(target=None) if given else CONSTANT

    def _pairs(self, items: Sequence[Value]) -> Value:
        return mixed(items)._replace(items=tuple(items))

    def _apply(self, function: ast.expr, given: Any, frame: Frame) -> Value:
        """What map gives for one item."""
        values = [given] if isinstance(given, Value) else list(given)
        name, receiver, target = self._callee(function, frame)
        if isinstance(function, (ast.Lambda, ast.Call)):
            target = self.value(function, frame).target
        inner = ast.Call(func=function, args=[], keywords=[])
        return self.call(name, receiver, target, values, {}, inner, frame)

    def _known(
        self,
        name: str,
        receiver: Value | None,
        given: Sequence[Value],
        named: Mapping[str, Value],
        node: ast.Call,
    ) -> Value | None:
        """A call of something in the tables; None for anything else."""
        operands = [*([receiver] if receiver is not None else []), *given]
        first = operands[0] if operands else next(iter(named.values()), CONSTANT)
        if name in ("rsqrt", "rsqrt_") or (name in operations.NORMALIZING and first.foreign):
            self._flags.add("normed")
        if name in ("pow", "power") and first.foreign and any(number_of(one) == -0.5 for one in node.args):
            self._flags.add("normed")
        if "fft" in name:
            self._flags.add("filtered")
        if name in operations.SIZES:
            return CONSTANT
        if name in operations.POSITIONS and receiver is None:
            use, weight, bias = operations.POSITIONS[name]
            self.note(_argument(given, named, weight, "weight"), use)
            self.note(_argument(given, named, bias, "bias"), "norm" if use == "norm" else "bias")
            return mixed([*given, *named.values()])
        if name in operations.JOINING and operands:
            made = mixed(operands)
            for item in first.items if first.items is not None else [first]:
                self.note(item, "joined" if made.foreign else "")
            return made
        if name in operations.SUMS and operands:
            return self._summed(first, receiver, given, named, node)
        if name in operations.SQUASHING and operands:
            return self._squash(mixed([first, *(one for one in operands[1:] if one.own)]))
        if name in ("einsum", "contract") and operands:
            return self._einsum(operands, node)
        if name in operations.PRODUCTS and operands:
            return self.multiply(operands)
        if name in operations.MATMUL or name in ("addmm", "addmv", "baddbmm", "addbmm"):
            flat = [item for one in operands for item in (one.items if one.items is not None else [one])]
            return self._contracted(flat, operations.OPERANDS[name])
        if name in operations.OPERANDS and operands:
            one, others = operations.OPERANDS[name]
            mixture = mixed(operands)
            for position, operand in enumerate(operands):
                use = others if position else one
                self.note(operand, use if mixture.foreign or use != "joined" else "")
            if name not in operations.VIEWS:
                return mixture._replace(products=frozenset().union(*(one.products for one in operands)))
        if name in operations.VIEWS and operands:
            return self._view(name, first, receiver, node)
        if name in operations.CASTS and operands:
            return first
        return None

    def _squash(self, value: Value) -> Value:
        made = squashed(value)
        self.note(made, "logits")
        return made

    def _view(self, name: str, value: Value, receiver: Value | None, node: ast.Call) -> Value:
        if name in operations.CASTS:
            return value
        args = node.args if receiver is not None else node.args[1:]
        trailing: int | None = None
        if value.trailing is not None and name in ("unsqueeze", "view", "reshape", "expand", "repeat", "expand_as"):
            sizes = [number_of(one) for one in args]
            if name == "unsqueeze" and sizes:
                trailing = value.trailing + 1 if sizes[0] == -1 else value.trailing if sizes[0] == 0 else None
            elif name in ("view", "reshape") and sizes.count(-1) == 1 and all(one in (1, -1) for one in sizes):
                trailing = sizes[::-1].index(-1)
            elif name in ("expand", "repeat", "expand_as"):
                trailing = value.trailing
        made = viewed(value, trailing)
        return made if value.foreign or name not in ("chunk", "split", "unbind") else made._replace(items=None)

    def _summed(
        self,
        value: Value,
        receiver: Value | None,
        given: Sequence[Value],
        named: Mapping[str, Value],
        node: ast.Call,
    ) -> Value:
        """A sum; over an axis of a parameter that was multiplied in before, it is a dot product with it."""
        said = next((word.value for word in node.keywords if word.arg in ("dim", "axis")), None)
        args = node.args if receiver is not None else node.args[1:]
        where = said if said is not None else args[0] if args else None
        axes = where.elts if isinstance(where, (ast.Tuple, ast.List)) else [where] if where is not None else []
        # All axes from one on: list(range(1, x.ndim)).
        numbers = [-1.0] if isinstance(where, ast.Call) else [number_of(one) for one in axes]
        for name, trailing in value.products:
            uses = self._noted.setdefault(name, set())
            for axis in numbers or [None]:
                if axis is None or axis >= 0 or trailing is None:
                    uses.add("summed")
                elif axis + trailing < 0:
                    uses.add(f"dot {int(axis) + trailing}")
        return viewed(value, None)._replace(products=frozenset())

    def _einsum(self, operands: Sequence[Value], node: ast.Call) -> Value:
        """Contracted, unless every axis of a parameter stays in the result."""
        said = next((text for text in map(pattern_of, node.args) if text), "")
        tensors = (
            operands[1:] if node.args and pattern_of(node.args[0]) else [one for one in operands if one != CONSTANT]
        )
        inputs, _, output = said.partition("->")
        axes = [axes_of(one) for one in inputs.split(",")]
        foreign = any(one.foreign for one in tensors)
        for position, one in enumerate(tensors):
            use = "matmul" if foreign else "factor"
            if output and len(axes) == len(tensors):
                use = "scaled" if axes[position] <= axes_of(output) else use
            self.note(one, use)
        return mixed(tensors)


_READERS: dict[type, Callable[..., Value]] = {
    ast.Constant: Reader._constant,
    ast.Name: Reader._name,
    ast.Attribute: Reader._attribute,
    ast.Subscript: Reader._subscript,
    ast.Slice: Reader._slice,
    ast.UnaryOp: Reader._unary,
    ast.BinOp: Reader._binary,
    ast.IfExp: Reader._either,
    ast.BoolOp: Reader._or,
    ast.Compare: Reader._compared,
    ast.Tuple: Reader._several,
    ast.List: Reader._several,
    ast.Starred: Reader._starred,
    ast.NamedExpr: Reader._named,
    ast.Lambda: Reader._lambda,
    ast.ListComp: Reader._comprehension,
    ast.SetComp: Reader._comprehension,
    ast.GeneratorExp: Reader._comprehension,
    ast.Call: Reader._call,
}


@lru_cache(maxsize=1 << 14)
def parsed(function: Any) -> ast.FunctionDef | None:
    """The syntax tree of a function; None where its source can't be read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError, RecursionError):
        return None
    return tree.body[0] if tree.body and isinstance(tree.body[0], ast.FunctionDef) else None


def _bind_arguments(
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
        frame.local[args.vararg.arg] = mixed(rest)._replace(items=rest) if rest else FOREIGN
    if args.kwarg is not None:
        frame.local[args.kwarg.arg] = FOREIGN


def _returned(frame: Frame) -> Value:
    several = frame.returned
    if not several:
        return FOREIGN
    lengths = {len(one.items) if one.items is not None else -1 for one in several}
    if len(lengths) == 1 and lengths != {-1}:
        items = tuple(either(column) for column in zip(*(one.items or () for one in several), strict=True))
        return mixed(items)._replace(items=items)
    return either(several)


def _aligned(made: Value, sides: Sequence[Value]) -> Value:
    """A value keeps its axes through a sum or product with constants."""
    own = [side for side in sides if side.own]
    return made._replace(trailing=own[0].trailing) if len(own) == 1 and not made.foreign else made


def _are_constant(sides: Iterable[Value]) -> bool:
    """Whether one side is a plain constant, which a parameter is only scaled or shifted by."""
    return any(not side.foreign and not side.own for side in sides)


def _is_method_of(function: Any, kind: type | None, name: str) -> bool:
    return kind is not None and inspect.getattr_static(kind, name, None) is function


def _is_readable(function: Any) -> bool:
    return (
        inspect.isfunction(function)
        and function.__module__ is not None
        and (function.__module__.partition(".")[0] not in ("torch", "numpy", "math"))
    )


def _closure(function: Any) -> dict[str, Any]:
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    found: dict[str, Any] = {}
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def _argument(given: Sequence[Value], named: Mapping[str, Value], position: int, keyword: str) -> Value:
    if keyword in named:
        return named[keyword]
    return given[position] if 0 <= position < len(given) else FOREIGN
