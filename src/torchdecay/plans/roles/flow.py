"""Reads the methods of a module class without running them, and notes what becomes of each attribute of self.

Values are followed through views, casts, indexing, local variables, loops, lambdas, properties, methods of the class
and functions of other modules than torch's; what can't be read, a kernel say, is told by the words in its name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torchdecay.plans.roles.calls import Calls
from torchdecay.plans.roles.frames import SELF, Frame, Local, bind_arguments, parsed, returned_by
from torchdecay.plans.roles.values import CONSTANT, FOREIGN, Value, either, mixed

_DEPTH, _CALLS = 5, 200
"""How deep functions are followed, and how many of them for one class."""


class Reader(Calls):
    """Notes the uses of `self.<name>` in the methods of a class."""

    def __init__(self, kind: type, natures: Mapping[str, Any]) -> None:
        super().__init__(natures)
        self.kind = kind
        self.found: dict[str, set[str]] = {}
        self._calls = 0
        self._returns: dict[Any, Value] = {}

    def read(self, method: Any, returned: str = "") -> None:
        """Read one method; what it scales is noted as normed or filtered, if it normalizes or takes a spectrum.

        `returned` is the use of what it returns.
        """
        tree = parsed(method)
        if tree is None or not (tree.args.posonlyargs or tree.args.args):
            return
        self.noted, self.flags = {}, set()
        self.note(self.run(method, tree, [SELF], {}, self.kind), returned)
        for attribute_name, uses in self.noted.items():
            if "scaled" in uses:
                uses |= self.flags
            self.found.setdefault(attribute_name, set()).update(uses)

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
        made = self.operate(node.op, there, value, node.value)
        if isinstance(node.target, ast.Name):
            frame.local[node.target.id] = made
        elif isinstance(node.target, ast.Subscript):
            self.bind(node.target, made, frame)
