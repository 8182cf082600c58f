"""A syntax tree with what rules ask of it: parents, nodes by type, and what a name stands for where it is used."""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

Node = TypeVar("Node", bound=ast.AST)
Function = ast.FunctionDef | ast.AsyncFunctionDef

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
SCOPES = (ast.Module, ast.ClassDef, ast.Lambda, *FUNCTIONS, *COMPREHENSIONS)
_LEAVES = frozenset({ast.Load, ast.Store, ast.Del, type(None), str, int})
_TELLING = frozenset(
    {ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.AugAssign, ast.For, ast.AsyncFor, ast.comprehension, ast.With}
    | {ast.AsyncWith, ast.Import, ast.ImportFrom, ast.arguments, ast.Global, ast.Nonlocal, ast.ExceptHandler}
    | {ast.MatchAs, ast.MatchStar, ast.Delete, ast.Call, ast.Subscript, *SCOPES}
)
"""Nodes that bind or change something, or hold names of their own; all others are passed by."""
_CHANGES = {"append", "extend", "insert", "add", "update", "setdefault", "pop", "remove", "clear"}
_BLOCKS = ("body", "orelse", "finalbody", "handlers")


@dataclass(frozen=True, eq=False)
class Binding:
    """One place at which a name gets a meaning.

    Attributes:
        kind: "value" (value), "item" (a part of value), "loop" (an item of value), "import" (dotted), "def" (node is
            the function or class), "param" (value is its default), "other".
        node: the statement, or the argument.
        value: an expression, by kind.
        dotted: what an import names.
    """

    kind: str
    node: ast.AST
    value: ast.expr | None = None
    dotted: str = ""


class Code:
    """A syntax tree, read once; what rules have in common asks it."""

    def __init__(self, tree: ast.Module, text: str = "") -> None:
        self.tree, self.text = tree, text
        self.parents: dict[ast.AST, ast.AST] = {}
        self.bindings: dict[ast.AST, dict[str, list[Binding]]] = {tree: defaultdict(list)}
        self.attributes: dict[tuple[ast.AST | None, str], list[ast.expr | None]] = defaultdict(list)
        self.stars: list[str] = []
        self.changed: dict[str, list[ast.Call | ast.Subscript | ast.AugAssign]] = defaultdict(list)
        self._nodes: dict[type[ast.AST], list[Any]] = defaultdict(list)
        self._read(tree, tree)

    def all(self, kind: type[Node]) -> list[Node]:
        """Every node of a type, in the order of the file."""
        return self._nodes[kind]

    # ── Reading ──

    def _read(self, node: ast.AST, scope: ast.AST) -> None:
        for name in node._fields:
            value = getattr(node, name, None)
            for child in value if type(value) is list else (value,):
                if type(child) in _LEAVES or not isinstance(child, ast.AST):
                    continue
                kind = type(child)
                self.parents[child] = node
                self._nodes[kind].append(child)
                if kind in _TELLING:
                    inner = scope
                    if kind in SCOPES:
                        inner = child
                        self.bindings[child] = defaultdict(list)
                    self._bind(child, scope)
                    self._change(child)
                    self._read(child, inner)
                else:
                    self._read(child, scope)

    def _bind(self, node: ast.AST, scope: ast.AST) -> None:
        names = self.bindings[scope]
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, node.value, node, scope)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            if node.value is not None:
                self._assign(node.target, node.value, node, scope)
        elif isinstance(node, ast.AugAssign):
            self._assign(node.target, None, node, scope)
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            for name in names_in(node.target):
                names[name].append(Binding("loop", node, node.iter))
        elif isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                for name in names_in(item.optional_vars):
                    names[name].append(Binding("other", node))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                dotted = alias.name if alias.asname else alias.name.partition(".")[0]
                names[alias.asname or dotted].append(Binding("import", node, dotted=dotted))
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            for alias in node.names:
                if alias.name == "*":
                    self.stars.append(start)
                names[alias.asname or alias.name].append(Binding("import", node, dotted=f"{start}.{alias.name}"))
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            names[node.name].append(Binding("def", node))
        elif isinstance(node, ast.arguments):
            self._parameters(node, scope)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            for name in node.names:
                names[name].append(Binding("other", node))
                self.bindings[self.tree][name].append(Binding("other", node))
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names[node.name].append(Binding("other", node))
        elif isinstance(node, ast.Delete):
            for target in node.targets:
                self._assign(target, None, node, scope)

    def _change(self, node: ast.AST) -> None:
        """Note what changes a list or dictionary in place, under the text of its name."""
        owner: ast.expr | None = None
        if is_method(node, *_CHANGES):
            # Of what is in a dictionary, that.
            owner = node.func.value.value if isinstance(node.func.value, ast.Subscript) else node.func.value
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            owner = node.value
        elif isinstance(node, ast.AugAssign):
            owner = node.target
        for one in (owner.body, owner.orelse) if isinstance(owner, ast.IfExp) else (owner,):
            if isinstance(node, ast.Call | ast.Subscript | ast.AugAssign) and isinstance(one, ast.Name | ast.Attribute):
                self.changed[ast.unparse(one)].append(node)

    def _assign(self, target: ast.expr, value: ast.expr | None, node: ast.AST, scope: ast.AST) -> None:
        if isinstance(target, ast.Name):
            self.bindings[scope][target.id].append(Binding("value" if value else "other", node, value))
        elif isinstance(target, ast.Attribute):
            if isinstance(target.value, ast.Name) and target.value.id in ("self", "cls"):
                self.attributes[self.class_of(node), target.attr].append(value)
        elif isinstance(target, ast.Tuple | ast.List):
            parts: list[ast.expr | None] = [None] * len(target.elts)
            if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
                parts = list(value.elts)
            for one, part in zip(target.elts, parts, strict=True):
                if part is None and isinstance(one, ast.Name):
                    self.bindings[scope][one.id].append(Binding("item", node, value))
                else:
                    self._assign(one, part, node, scope)
        elif isinstance(target, ast.Starred):
            self._assign(target.value, None, node, scope)

    def _parameters(self, node: ast.arguments, scope: ast.AST) -> None:
        names, positional = self.bindings[scope], [*node.posonlyargs, *node.args]
        defaults = [None] * (len(positional) - len(node.defaults)) + list(node.defaults)
        for one, default in zip([*positional, *node.kwonlyargs], [*defaults, *node.kw_defaults], strict=True):
            names[one.arg].append(Binding("param", one, default))
        for rest in filter(None, (node.vararg, node.kwarg)):
            names[rest.arg].append(Binding("other", rest))

    # ── Up the tree ──

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """Parents, the nearest first."""
        while (up := self.parents.get(node)) is not None:
            yield up
            node = up

    def first(self, node: ast.AST, *kinds: type[Node]) -> Node | None:
        """The nearest ancestor of these types."""
        return next((one for one in self.ancestors(node) if isinstance(one, kinds)), None)

    def function_of(self, node: ast.AST) -> Function | ast.Module:
        """The function that a node stands in, or the module."""
        return self.first(node, *FUNCTIONS) or self.tree

    def class_of(self, node: ast.AST) -> ast.ClassDef | None:
        """The class that a node stands in."""
        return self.first(node, ast.ClassDef)

    def statement(self, node: ast.AST) -> ast.stmt | None:
        """The statement that a node is, or stands in."""
        return node if isinstance(node, ast.stmt) else self.first(node, ast.stmt)

    def block(self, statement: ast.AST) -> list[ast.stmt]:
        """The list of statements that this one stands in."""
        up = self.parents.get(statement)
        for name in _BLOCKS:
            if statement in (body := getattr(up, name, ())):
                return list(body)
        return []

    def inside(self, node: ast.AST, outer: ast.AST) -> bool:
        """Whether a node stands somewhere in another."""
        return node is outer or any(one is outer for one in self.ancestors(node))

    def always_after(self, first: ast.AST, then: ast.AST) -> bool:
        """Whether `then` comes after `first`, and never without it: `first` is in the same block or in one around."""
        here: list[ast.AST] = [*self.block(first)]
        step = next((one for one in (then, *self.ancestors(then)) if one in here), None)
        return step is not None and here.index(step) > here.index(first)

    def scope_of(self, node: ast.AST) -> ast.AST:
        """Where the names of an expression are looked up; defaults and decorators belong to what is around."""
        came, outside = node, False
        for up in self.ancestors(node):
            if isinstance(up, SCOPES):
                around = getattr(up, "bases", []) + getattr(up, "decorator_list", [])
                if not outside and came not in around:
                    return up
                outside = False
            elif isinstance(up, ast.arguments):
                outside = True
            came = up
        return self.tree

    # ── Names ──

    def binding(self, name: ast.Name) -> Binding | None:
        """Where a name got the meaning that it has here; None where that can't be told."""
        start: ast.AST | None = self.scope_of(name)
        scope = start
        while scope is not None:
            found = self.bindings[scope].get(name.id)
            if found and (not isinstance(scope, ast.ClassDef) or scope is start):
                # A comprehension runs where it stands: its names are looked up as if there.
                return self._reaching(found, name if scope is start or isinstance(start, COMPREHENSIONS) else None)
            scope = self.first(scope, *SCOPES)
        return None

    def _reaching(self, found: list[Binding], use: ast.Name | None) -> Binding | None:
        if len(found) == 1:
            return found[0] if found[0].kind != "other" else None
        if use is None:
            return None
        at = _position(use)
        before = [one for one in found if _position(one.node) < at and self._is_past(one, use)]
        if not before or before[-1].kind == "other":
            return None
        last = before[-1]
        if last.kind == "param" or self.inside(use, last.node) or self.always_after(last.node, use):
            loop = self.first(use, ast.For, ast.While, ast.AsyncFor)
            late = loop is not None and any(self.inside(one.node, loop) for one in found if one not in before)
            if not late or (loop is not None and self.inside(last.node, loop)):
                return last
        return None

    def _is_past(self, one: Binding, use: ast.Name) -> bool:
        """Whether a binding is done where a name is used: a statement's is behind it, a loop's in its body."""
        loops = isinstance(one.node, ast.For | ast.AsyncFor) and not self.inside(use, one.node.iter)
        return loops or not self.inside(use, one.node)

    def value(self, node: ast.expr, *, depth: int = 12) -> ast.expr:
        """The expression behind names: followed through plain assignments and once-set attributes of self."""
        if depth and isinstance(node, ast.Name):
            found = self.binding(node)
            if found is not None and found.kind == "value" and found.value is not None:
                return self.value(found.value, depth=depth - 1)
        if depth and isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            values = self.attributes.get((self.class_of(node), node.attr), [])
            if len(values) == 1 and values[0] is not None:
                return self.value(values[0], depth=depth - 1)
        return node

    def dotted(self, node: ast.expr, *, depth: int = 12) -> str:
        """The full name of what an expression stands for, "torch.optim.AdamW" say; "" where that can't be told."""
        if not depth:
            return ""
        if isinstance(node, ast.Attribute):
            start = self.dotted(node.value, depth=depth - 1)
            if not start and self.value(node) is not node:
                return self.dotted(self.value(node), depth=depth - 1)
            return f"{start}.{node.attr}" if start else ""
        if isinstance(node, ast.Name):
            found = self.binding(node)
            if found is None:
                # Bound nowhere, it is a builtin, or came with a star.
                known = any(node.id in names for names in self.bindings.values())
                starred = len(self.stars) == 1 and not hasattr(builtins, node.id)
                return "" if known else f"{self.stars[0]}.{node.id}" if starred else node.id
            if found.kind == "import":
                return found.dotted
            if found.kind == "value" and isinstance(found.value, ast.Name | ast.Attribute | ast.Call):
                return self.dotted(found.value, depth=depth - 1)
        if isinstance(node, ast.Call) and self.dotted(node.func, depth=depth - 1) == "getattr" and len(node.args) == 2:
            start, name = self.dotted(node.args[0], depth=depth - 1), self.value(node.args[1])
            return f"{start}.{name.value}" if start and isinstance(name, ast.Constant) else ""  # type: ignore[str-bytes-safe]
        return ""

    def definition(self, node: ast.expr) -> ast.AST | None:
        """The function or class of this file that a name stands for; for `self.name`, the method."""
        if isinstance(node, ast.Name):
            found = self.binding(node)
            return found.node if found is not None and found.kind == "def" else None
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            home = self.class_of(node)
            methods = self.bindings[home].get(node.attr, []) if home is not None else []
            return methods[0].node if len(methods) == 1 and methods[0].kind == "def" else None
        return None

    def returned(self, function: ast.AST | None) -> list[ast.expr]:
        """What a function of this file returns, each return of its own."""
        return [
            one.value
            for one in (self.all(ast.Return) if isinstance(function, FUNCTIONS) else ())
            if one.value is not None and self.function_of(one) is function
        ]


if TYPE_CHECKING:

    class MethodCall(ast.Call):
        """A call of an attribute."""

        func: ast.Attribute


def is_method(node: ast.AST | None, *names: str) -> TypeGuard[MethodCall]:
    """Whether this calls a method; one of these names, where there are any."""
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    return is_call and (not names or node.func.attr in names)  # type: ignore[union-attr]


def names_in(*nodes: ast.AST | None, stored: bool = False) -> list[str]:
    """Every name in some code, or those that are given a value there."""
    every = (one for node in nodes if node is not None for one in ast.walk(node) if isinstance(one, ast.Name))
    return [one.id for one in every if not stored or isinstance(one.ctx, ast.Store)]


def _position(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", getattr(getattr(node, "target", None), "lineno", 0)), getattr(node, "col_offset", 0)
