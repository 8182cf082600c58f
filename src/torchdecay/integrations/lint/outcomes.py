"""What becomes of one parameter in a loop over parameters, where its name or dimensions are known."""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from torchdecay.integrations.lint.code import Code, is_method
from torchdecay.integrations.lint.constants import constant, strings
from torchdecay.integrations.lint.layers import Kind, holders
from torchdecay.integrations.lint.parameters import Loop

_COMPARED: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_SAID = {"print", "debug", "info", "warning", "write"}
Outcome = tuple[str, ...]
"""The statements that a parameter undergoes, or the lists that take it."""


class UnknownError(Exception):
    """It can't be told."""


@dataclass(frozen=True)
class Passage:
    """A parameter that is trained, on its way through a loop.

    Attributes:
        code: the file.
        loop: over parameters.
        kind: what is known of the parameter.
        words: names that stand for text: those of loops inside a test.
    """

    code: Code
    loop: Loop
    kind: Kind
    words: Mapping[str, str] = field(default_factory=dict)

    def outcome(self) -> Outcome | None:
        """What happens to it, as statements with all choices made; None where that can't be told."""
        try:
            if isinstance(self.loop.node, ast.comprehension):
                made = self.code.parents[self.loop.node]
                taken = all(map(self._known, self.loop.node.ifs))
                parts = [made.key, made.value] if isinstance(made, ast.DictComp) else [getattr(made, "elt", made)]
                return (", ".join(map(self._chosen, parts)),) if taken else ()
            done: list[str] = []
            self._run(self.loop.node.body, done)
            return tuple(done)
        except UnknownError:
            return None

    def _run(self, body: Iterable[ast.stmt], done: list[str]) -> bool:
        """Go through statements as the parameter does; whether the next ones are reached."""
        for one in body:
            if isinstance(one, ast.If):
                if not self._run(one.body if self._known(one.test) else one.orelse, done):
                    return False
            elif isinstance(one, ast.Continue):
                return False
            elif isinstance(one, ast.Expr | ast.Assign | ast.AugAssign | ast.AnnAssign):
                call = one.value if isinstance(one, ast.Expr) else None
                if not (isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in _SAID):
                    done.append(self._chosen(one))
            elif not isinstance(one, ast.Pass | ast.Assert):
                raise UnknownError
        return True

    def _chosen(self, node: ast.AST) -> str:
        """A node as text, each `a if test else b` in it decided."""
        # Decided before the copy, whose nodes have no parents.
        sides = {
            (one.lineno, one.col_offset, one.end_col_offset): self._known(one.test)
            for one in ast.walk(node)
            if isinstance(one, ast.IfExp)
        }

        class Choose(ast.NodeTransformer):
            def visit_IfExp(self, one: ast.IfExp) -> ast.AST:
                side = one.body if sides[one.lineno, one.col_offset, one.end_col_offset] else one.orelse
                chosen: ast.AST = self.visit(side)
                return chosen

        return ast.unparse(Choose().visit(copy.deepcopy(node)) if sides else node)

    def _known(self, test: ast.expr) -> bool:
        found = self.holds(test)
        if found is None:
            raise UnknownError
        return found

    def holds(self, test: ast.expr) -> bool | None:
        """Whether a test on the loop's name and parameter holds; None where that can't be told."""
        if isinstance(test, ast.BoolOp):
            return _decided(map(self.holds, test.values), by=isinstance(test.op, ast.Or))
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            inner = self.holds(test.operand)
            return None if inner is None else not inner
        if isinstance(test, ast.Constant) and isinstance(test.value, bool):
            return test.value
        if isinstance(test, ast.Attribute) and test.attr == "requires_grad":
            return True
        if isinstance(test, ast.Compare):
            if len(test.ops) == 1 and isinstance(test.ops[0], ast.In | ast.NotIn):
                found = self._contains(test.left, test.comparators[0])
                return None if found is None else found is isinstance(test.ops[0], ast.In)
            return self._compares(test)
        if isinstance(test, ast.Call):
            return self._calls(test)
        if isinstance(test, ast.Name) and (behind := self.code.value(test)) is not test:
            return self.holds(behind)
        return None

    def _compares(self, test: ast.Compare) -> bool | None:
        parameter = self.loop.parameter
        counts = {f"{parameter}.ndim", f"{parameter}.dim()", f"{parameter}.ndimension()"}
        counts |= {f"len({parameter}.shape)", f"len({parameter}.size())"}
        if not self.kind.dimensions or ast.unparse(test.left) not in counts:
            return None
        left, result = self.kind.dimensions, True
        for operation, right in zip(test.ops, test.comparators, strict=True):
            value = constant(self.code, right)
            compare = _COMPARED.get(type(operation))
            if compare is None or not isinstance(value, int):
                return None
            result, left = result and compare(left, value), value
        return result

    def _calls(self, call: ast.Call) -> bool | None:
        if is_method(call, "endswith") and len(call.args) == 1:
            ends = self._texts(call.args[0])
            known = ends is not None and self._is_name(call.func.value)
            return _decided(map(self._ends, ends or ()), by=True) if known else None
        if (asked := self._asked(call)) is not None:
            return asked
        every = self.code.dotted(call.func)
        made = call.args[0] if every in ("any", "all") and len(call.args) == 1 else None
        if not isinstance(made, ast.GeneratorExp | ast.ListComp) or len(made.generators) > 1:
            return None
        part = made.generators[0]
        listed = self._texts(part.iter)
        if part.ifs or listed is None or not isinstance(part.target, ast.Name):
            return None
        name = part.target.id
        each = (replace(self, words={**self.words, name: one}).holds(made.elt) for one in listed)
        return _decided(each, by=every == "any")

    def _asked(self, call: ast.Call) -> bool | None:
        """What a helper of this file says that gets the loop's names; None where there is none, or it can't be told."""
        home = self.code.definition(call.func) or self.code.value(call.func)
        if not isinstance(home, ast.Lambda | ast.FunctionDef) or call.keywords or len(home.args.args) != len(call.args):
            return None
        returned = [home.body] if isinstance(home, ast.Lambda) else self.code.returned(home)
        if len(returned) != 1 or (isinstance(home, ast.FunctionDef) and len(home.body) > 2):
            return None
        own = {ast.unparse(one): argument.arg for one, argument in zip(call.args, home.args.args, strict=True)}
        name, parameter = own.get(self.loop.name, ""), own.get(self.loop.parameter, "")
        return replace(self, loop=replace(self.loop, name=name, parameter=parameter)).holds(returned[0])

    def _contains(self, left: ast.expr, right: ast.expr) -> bool | None:
        """`"part" in name`; a list of full names is not known to hold one of which the end alone is."""
        part, lower = self._text(left), is_method(right, "lower")
        if is_method(right, "lower"):
            right = right.func.value
        if part is None or not self.kind.name or not self._is_name(right):
            return None
        name = self.kind.name.lower() if lower else self.kind.name
        if part in name:
            return True
        # It may stand further in front, where other modules are named.
        ahead = part.startswith(".") and name.startswith(part[1:])
        ahead = ahead or any(part.strip(".") in (one.lower() if lower else one) for one in holders(self.code))
        return None if ahead else False

    def _ends(self, end: str) -> bool | None:
        name = self.kind.name
        return None if not name else True if name.endswith(end) else None if end.endswith(name) else False

    def _is_name(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and bool(self.loop.name) and node.id == self.loop.name

    def _text(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return self.words.get(node.id)
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None

    def _texts(self, node: ast.expr) -> list[str] | None:
        """One text, or the texts of a list that is written out."""
        one = self._text(node)
        return [one] if one is not None else strings(self.code, node)


def _decided(each: Iterable[bool | None], *, by: bool) -> bool | None:
    """What many say together, of which one that says `by` decides; None where that can't be told."""
    found = list(each)
    return by if by in found else None if None in found else not by
