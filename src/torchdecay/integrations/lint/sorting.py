"""What a loop over parameters does with one of which name or dimensions are known: in which lists it ends."""

from __future__ import annotations

import ast
import copy
import functools
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from torchdecay.integrations.lint.code import COMPREHENSIONS, Code, is_method, names_in
from torchdecay.integrations.lint.constants import constant
from torchdecay.integrations.lint.layers import Kind, holders, kinds
from torchdecay.integrations.lint.parameters import Loop, parameter_loops, reaching

_COMPARED: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_SAID = {"print", "debug", "info", "warning", "write"}
_KEEPS = re.compile(r"\.(append|add|extend|insert|update)\(|\+= |\] = |^\S+ = ")
"""Statements that may keep a parameter."""
MATRIX, BIAS = Kind("?.weight", 2), Kind("?.bias", 1, "bias")
"""What a layer of any model has, whatever it is called."""
Outcome = tuple[str, ...]
"""The statements that a parameter undergoes, or the lists that take it."""


@dataclass(frozen=True, eq=False)
class Sort:
    """Loops of one function that together sort the parameters of a model.

    Attributes:
        node: the first test.
        loops: one `for`, or comprehensions beside each other.
        is_whole: whether no other loop over the same model takes what these leave.
    """

    code: Code
    node: ast.expr
    loops: tuple[Loop, ...]
    is_whole: bool

    @property
    def model(self) -> str:
        """Its text."""
        return ast.unparse(self.loops[0].model)

    @property
    def is_loop(self) -> bool:
        """Whether it is one `for`."""
        return not isinstance(self.loops[0].node, ast.comprehension)

    def outcome(self, kind: Kind) -> Outcome | None:
        """What becomes of a parameter; None where that can't be told."""
        each = [outcome(self.code, one, kind) for one in self.loops]
        if any(one is None for one in each):
            return None
        return tuple(
            text if self.is_loop else f"list {n} += {text}" for n, one in enumerate(each) for text in one or ()
        )

    def matrix(self) -> Kind | None:
        """A matrix that ends in some list: of any model, else of this file."""
        built = (one for one in kinds(self.code) if one.part == "matrix")
        return next((one for one in (MATRIX, *built) if self.is_kept(one)), None)

    def is_kept(self, kind: Kind) -> bool | None:
        """Whether a parameter ends in any list; None where that can't be told."""
        found = self.outcome(kind)
        return None if found is None else any(_KEEPS.search(one) for one in found)


@functools.lru_cache(maxsize=8)
def sorts(code: Code) -> tuple[Sort, ...]:
    """All that sort parameters which reach an optimizer."""
    return tuple(_sorts(code))


def _sorts(code: Code) -> Iterator[Sort]:
    reached, every = reaching(code), list(parameter_loops(code))
    families: dict[tuple[ast.AST, str], list[Loop]] = {}
    for loop in every:
        if isinstance(code.parents[loop.node], ast.DictComp) and not _tests(code.parents[loop.node]):
            # Names and parameters of all that is trained, for other loops to go through.
            continue
        families.setdefault((code.function_of(loop.node), ast.unparse(loop.model)), []).append(loop)
    for family in families.values():
        made = [one for one in family if isinstance(one.node, ast.comprehension)]
        taken = [one for one in made if code.parents[one.node] in reached and not _is_generator_of_text(code, one)]
        tests = [test for one in taken for test in _tests(code.parents[one.node])]
        if tests:
            tested = all(_tests(code.parents[one.node]) for one in taken)
            yield Sort(code, tests[0], tuple(taken), len(family) == len(taken) > 1 and tested)
        loops = [one for one in family if one not in made]
        for loop in loops:
            tests = [one.test for one in ast.walk(loop.node) if isinstance(one, ast.If) and one.test in reached]
            tests += [one.test for one in ast.walk(loop.node) if isinstance(one, ast.IfExp) and one in reached]
            if tests:
                yield Sort(code, tests[0], (loop,), len(loops) == 1 and not taken)


def _is_generator_of_text(code: Code, loop: Loop) -> bool:
    """Whether a comprehension only names parameters."""
    made = code.parents[loop.node]
    return not isinstance(made, ast.DictComp) and loop.parameter not in names_in(getattr(made, "elt", None))


def _tests(made: ast.AST) -> list[ast.expr]:
    """What a comprehension asks, other than whether something is trained."""
    asked = [one for part in made.generators for one in part.ifs] if isinstance(made, COMPREHENSIONS) else []
    chosen = [one.test for one in ast.walk(made) if isinstance(one, ast.IfExp)]
    return [one for one in (*asked, *chosen) if not ast.unparse(one).endswith("requires_grad")]


class UnknownError(Exception):
    """It can't be told."""


def outcome(code: Code, loop: Loop, kind: Kind) -> Outcome | None:
    """What happens to a parameter in a loop, as statements with all choices made; None where that can't be told."""
    try:
        if isinstance(loop.node, ast.comprehension):
            made = code.parents[loop.node]
            taken = all(known(holds(code, one, loop, kind)) for one in loop.node.ifs)
            parts = [made.key, made.value] if isinstance(made, ast.DictComp) else [getattr(made, "elt", loop.node)]
            return (", ".join(_chosen(code, one, loop, kind) for one in parts),) if taken else ()
        done: list[str] = []
        _run(code, loop.node.body, loop, kind, done)
        return tuple(done)
    except UnknownError:
        return None


def _run(code: Code, body: Iterable[ast.stmt], loop: Loop, kind: Kind, done: list[str]) -> bool:
    """Go through statements as this parameter does; whether the next ones are reached."""
    for one in body:
        if isinstance(one, ast.If):
            if not _run(code, one.body if known(holds(code, one.test, loop, kind)) else one.orelse, loop, kind, done):
                return False
        elif isinstance(one, ast.Continue):
            return False
        elif isinstance(one, ast.Expr | ast.Assign | ast.AugAssign | ast.AnnAssign):
            call = one.value if isinstance(one, ast.Expr) else None
            if not (isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in _SAID):
                done.append(_chosen(code, one, loop, kind))
        elif not isinstance(one, ast.Pass | ast.Assert):
            raise UnknownError
    return True


def _chosen(code: Code, node: ast.AST, loop: Loop, kind: Kind) -> str:
    """A node as text, each `a if test else b` in it decided."""
    if not any(isinstance(one, ast.IfExp) for one in ast.walk(node)):
        return ast.unparse(node)

    # Decided before the copy, whose nodes have no parents.
    sides = {
        (one.lineno, one.col_offset, one.end_col_offset): known(holds(code, one.test, loop, kind))
        for one in ast.walk(node)
        if isinstance(one, ast.IfExp)
    }

    class Choose(ast.NodeTransformer):
        def visit_IfExp(self, one: ast.IfExp) -> ast.AST:
            side = one.body if sides[one.lineno, one.col_offset, one.end_col_offset] else one.orelse
            chosen: ast.AST = self.visit(side)
            return chosen

    return ast.unparse(Choose().visit(copy.deepcopy(node)))


def known(holds: bool | None) -> bool:
    """What is known.

    Raises:
        UnknownError: nothing is.
    """
    if holds is None:
        raise UnknownError
    return holds


def holds(code: Code, test: ast.expr, loop: Loop, kind: Kind, words: Mapping[str, str] | None = None) -> bool | None:
    """Whether a test holds for a parameter that is trained; None where that can't be told.

    Args:
        code: the file.
        test: on the loop's name and parameter.
        loop: over parameters.
        kind: what is known of the parameter.
        words: names that stand for text: those of loops inside the test.
    """
    words = words or {}
    if isinstance(test, ast.BoolOp):
        parts = [holds(code, one, loop, kind, words) for one in test.values]
        ends = isinstance(test.op, ast.Or)
        return ends if ends in parts else None if None in parts else not ends
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = holds(code, test.operand, loop, kind, words)
        return None if inner is None else not inner
    if isinstance(test, ast.Constant) and isinstance(test.value, bool):
        return test.value
    if isinstance(test, ast.Attribute) and test.attr == "requires_grad":
        return True
    if isinstance(test, ast.Compare):
        if len(test.ops) == 1 and isinstance(test.ops[0], ast.In | ast.NotIn):
            found = _contains(code, test.left, test.comparators[0], loop, kind, words)
            return None if found is None else found is isinstance(test.ops[0], ast.In)
        return _compares(code, test, loop, kind)
    if isinstance(test, ast.Call):
        return _calls(code, test, loop, kind, words)
    if isinstance(test, ast.Name) and (behind := code.value(test)) is not test:
        return holds(code, behind, loop, kind, words)
    return None


def _compares(code: Code, test: ast.Compare, loop: Loop, kind: Kind) -> bool | None:
    parameter = loop.parameter
    counts = {f"{parameter}.ndim", f"{parameter}.dim()", f"{parameter}.ndimension()"}
    counts |= {f"len({parameter}.shape)", f"len({parameter}.size())"}
    if not kind.dimensions or ast.unparse(test.left) not in counts:
        return None
    left, result = kind.dimensions, True
    for operation, right in zip(test.ops, test.comparators, strict=True):
        value = constant(code, right)
        compare = _COMPARED.get(type(operation))
        if compare is None or not isinstance(value, int):
            return None
        result, left = result and compare(left, value), value
    return result


def _calls(code: Code, call: ast.Call, loop: Loop, kind: Kind, words: Mapping[str, str]) -> bool | None:
    if is_method(call, "endswith") and len(call.args) == 1:
        ends = _texts(code, call.args[0], words)
        return None if ends is None or not _is_name(call.func.value, loop) else _any(_ends(kind, one) for one in ends)
    if (asked := _asked(code, call, loop)) is not None:
        return holds(code, asked[0], asked[1], kind, words)
    every = code.dotted(call.func)
    made = call.args[0] if every in ("any", "all") and len(call.args) == 1 else None
    if not isinstance(made, ast.GeneratorExp | ast.ListComp) or len(made.generators) > 1 or made.generators[0].ifs:
        return None
    part = made.generators[0]
    listed = _texts(code, part.iter, words)
    if listed is None or not isinstance(part.target, ast.Name):
        return None
    each = [holds(code, made.elt, loop, kind, {**words, part.target.id: one}) for one in listed]
    if every == "any":
        return _any(each)
    return False if False in each else None if None in each else True


def _asked(code: Code, call: ast.Call, loop: Loop) -> tuple[ast.expr, Loop] | None:
    """What a helper of this file returns that gets the loop's names, and the loop as the helper calls them."""
    home = code.definition(call.func) or code.value(call.func)
    if not isinstance(home, ast.Lambda | ast.FunctionDef) or call.keywords or len(home.args.args) != len(call.args):
        return None
    returned = [home.body] if isinstance(home, ast.Lambda) else code.returned(home)
    given = {ast.unparse(one): own.arg for one, own in zip(call.args, home.args.args, strict=True)}
    if len(returned) != 1 or (isinstance(home, ast.FunctionDef) and len(home.body) > 2):
        return None
    return returned[0], Loop(loop.node, loop.model, given.get(loop.name, ""), given.get(loop.parameter, ""))


def _any(each: Iterable[bool | None]) -> bool | None:
    found = list(each)
    return True if True in found else None if None in found else False


def _contains(
    code: Code, left: ast.expr, right: ast.expr, loop: Loop, kind: Kind, words: Mapping[str, str]
) -> bool | None:
    """`"part" in name`; a list of full names is not known to hold one of which the end alone is."""
    part, lower = _text(left, words), isinstance(right, ast.Call)
    if is_method(right, "lower"):
        right = right.func.value
    if part is None or not kind.name or not _is_name(right, loop):
        return None
    name = kind.name.lower() if lower else kind.name
    if part in name:
        return True
    # It may stand further in front, where other modules are named.
    ahead = part.startswith(".") and name.startswith(part[1:])
    ahead = ahead or any(part.strip(".") in (one.lower() if lower else one) for one in holders(code))
    return None if ahead else False


def _ends(kind: Kind, end: str) -> bool | None:
    if not kind.name:
        return None
    return True if kind.name.endswith(end) else None if end.endswith(kind.name) else False


def _is_name(node: ast.expr, loop: Loop) -> bool:
    return isinstance(node, ast.Name) and bool(loop.name) and node.id == loop.name


def _text(node: ast.expr, words: Mapping[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return words.get(node.id)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _texts(code: Code, node: ast.expr, words: Mapping[str, str]) -> list[str] | None:
    """One text, or the texts of a list that is written out."""
    one = _text(node, words)
    return [one] if one is not None else strings(code, node)


def written(code: Code, node: ast.expr) -> ast.expr:
    """The list behind a name: what it was given, or the default of a parameter."""
    behind = code.value(node)
    found = code.binding(behind) if isinstance(behind, ast.Name) else None
    return found.value if found is not None and found.kind == "param" and found.value is not None else behind


def strings(code: Code, node: ast.expr) -> list[str] | None:
    """The texts of a list that is written out and never changed."""
    behind = written(code, node)
    changed = isinstance(node, ast.Name | ast.Attribute) and code.changed.get(ast.unparse(node))
    if changed or not isinstance(behind, ast.List | ast.Tuple | ast.Set):
        return None
    found = [one.value for one in behind.elts if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return found if found and len(found) == len(behind.elts) else None
