"""Reads the methods of a module class without running them, and notes what becomes of each attribute of self.

Values are followed through views, casts, indexing, local variables, loops, lambdas, properties, methods of the class
and functions of other modules than torch's; what can't be read, a kernel say, is told by the words in its name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from torchdecay.plans.roles.calls import Calls
from torchdecay.plans.roles.frames import SELF, Frame, Local, parsed
from torchdecay.plans.roles.values import CONSTANT, FOREIGN, either


class Reader(Calls):
    """Notes the uses of `self.<name>` in the methods of a class."""

    def __init__(self, kind: type, natures: Mapping[str, Any]) -> None:
        super().__init__(kind, natures)
        self.found: dict[str, set[str]] = {}

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
