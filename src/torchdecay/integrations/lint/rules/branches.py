"""The branches that sort parameters into lists: WD505, WD516."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator

from torchdecay.integrations.lint.code import Code
from torchdecay.integrations.lint.constants import constant
from torchdecay.integrations.lint.parameters import Loop, groups, parameter_loop, parameter_loops, reaching
from torchdecay.integrations.lint.rule import Hit, rule


@rule(
    "WD505",
    "error",
    "parameters are sorted outside their loop",
    why="The `if` runs once, when the loop is over: the last parameter is in a list, and no other.",
    fix="Indent it into the loop.",
    bad="""
        decay, spared = [], []
        for name, param in model.named_parameters():
            print(name)
        if "bias" in name:
            spared.append(param)
        else:
            decay.append(param)
    """,
    good="""
        decay, spared = [], []
        for name, param in model.named_parameters():
            print(name)
            if "bias" in name:
                spared.append(param)
            else:
                decay.append(param)
    """,
)
def outside(code: Code) -> Iterator[Hit]:
    """An `if` behind a loop over parameters that asks for the loop's last name and keeps its last parameter."""
    for loop in parameter_loops(code):
        if not isinstance(loop.node, ast.For) or any(isinstance(one, ast.Break) for one in ast.walk(loop.node)):
            continue
        block = code.block(loop.node)
        for after in block[block.index(loop.node) + 1 :]:
            if isinstance(after, ast.If) and {loop.name, loop.parameter} & _names(after.test) and _keeps(after, loop):
                yield Hit(
                    after.test, f'"{ast.unparse(after.test)}" stands behind the loop over {ast.unparse(loop.model)}'
                )
            if loop.parameter in {one.id for one in ast.walk(after) if isinstance(one, ast.Name) and _is_stored(one)}:
                break


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _is_stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _keeps(branch: ast.If, loop: Loop) -> bool:
    """Whether a branch puts the loop's parameter into a list."""
    for node in ast.walk(branch):
        added: list[ast.expr] = [node.value] if isinstance(node, ast.AugAssign) else []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            added = node.args
        if any(loop.parameter in _names(one) for one in added):
            return True
    return False


_MOST_DIMENSIONS = 5
_COMPARED: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


@rule(
    "WD516",
    "warning",
    "a split that sorts nothing, or loses parameters",
    why="Both branches do the same, so all parameters decay alike; or what neither list takes is not trained at all.",
    fix="Let one list take what the other does not: `else`, or `not` the same test.",
    bad="""
        from torch.optim import AdamW

        decay = [p for p in model.parameters() if p.ndim > 2]
        spared = [p for p in model.parameters() if p.ndim < 2]
        optimizer = AdamW([{"params": decay}, {"params": spared, "weight_decay": 0.0}], weight_decay=0.1)
    """,
    good="""
        from torch.optim import AdamW

        decay = [p for p in model.parameters() if p.ndim >= 2]
        spared = [p for p in model.parameters() if p.ndim < 2]
        optimizer = AdamW([{"params": decay}, {"params": spared, "weight_decay": 0.0}], weight_decay=0.1)
    """,
)
def split(code: Code) -> Iterator[Hit]:
    """Equal branches, equal conditions of two groups, and numbers of dimensions that no list takes."""
    for loop in parameter_loops(code):
        for node in ast.walk(loop.node) if isinstance(loop.node, ast.For) else ():
            if isinstance(node, ast.If) and node.orelse and _keeps(node, loop):
                if [ast.dump(one) for one in node.body] == [ast.dump(one) for one in node.orelse]:
                    yield Hit(node.test, f'both branches of "{ast.unparse(node.test)}" do the same')
                elif isinstance(code.parents[node], ast.For):
                    yield from _lost_by_branches(code, node, loop)
    for one in groups(code):
        value = one.items.get("weight_decay")
        if isinstance(value, ast.IfExp) and ast.dump(value.body) == ast.dump(value.orelse):
            yield Hit(value, f"{ast.unparse(value)} is the same either way")
    yield from _alike(code)
    yield from _lost_by_conditions(code)


def _alike(code: Code) -> Iterator[Hit]:
    """Two groups side by side that take the parameters of one condition, with options that differ."""
    for one in groups(code):
        for other in groups(code):
            side_by_side = code.parents.get(one.node) is code.parents.get(other.node)
            if one is not other and side_by_side and one.node.lineno < other.node.lineno:
                first, then = (each.items["params"] for each in (one, other))
                if isinstance(first, ast.ListComp) and first.generators[0].ifs and ast.dump(first) == ast.dump(then):
                    yield Hit(then, f"the same parameters as in the group of line {first.lineno}")


def _lost_by_branches(code: Code, node: ast.If, loop: Loop) -> Iterator[Hit]:
    """Numbers of dimensions for which no branch of an if/elif without else holds."""
    tests, last = [node.test], node
    while len(last.orelse) == 1 and isinstance(last.orelse[0], ast.If):
        last = last.orelse[0]
        tests.append(last.test)
    alone = len(tests) > 1 and not last.orelse and node.test in reaching(code)
    missing = _missing(code, [[one] for one in tests], loop.parameter) if alone else []
    if missing:
        yield Hit(node.test, f"parameters of {_said(missing)} are in no list")


def _lost_by_conditions(code: Code) -> Iterator[Hit]:
    """Numbers of dimensions that no comprehension over a model takes, where those of one function tell all."""
    families: dict[tuple[ast.AST, str], list[tuple[ast.AST, Loop]]] = {}
    for node in code.all(ast.ListComp):
        loop = parameter_loop(code, node.generators[0])
        if loop is not None and node in reaching(code) and len(node.generators) == 1:
            families.setdefault((code.function_of(node), ast.unparse(loop.model)), []).append((node, loop))
    for (home, model), members in families.items():
        walks = [one for one in parameter_loops(code) if code.function_of(one.node) is home]
        same = [one for one in walks if ast.unparse(one.model) == model]
        # `p.requires_grad` chooses who is trained at all.
        tests = [
            [one for one in loop.node.ifs if not ast.unparse(one).endswith("requires_grad")]
            for _, loop in members
            if isinstance(loop.node, ast.comprehension)
        ]
        if (
            len(members) < 2
            or len(same) != len(members)
            or not all(tests)
            or len({loop.parameter for _, loop in members}) > 1
        ):
            continue
        missing = _missing(code, tests, members[0][1].parameter)
        if missing:
            yield Hit(members[0][0], f"parameters of {_said(missing)} are in no list of {model}")


def _missing(code: Code, tests: list[list[ast.expr]], parameter: str) -> list[int]:
    """The numbers of dimensions for which none of these holds; none where that can't be told."""
    values = [
        [_holds(code, ast.BoolOp(ast.And(), some), parameter, n) for some in tests]
        for n in range(1, _MOST_DIMENSIONS + 1)
    ]
    if any(one is None for row in values for one in row):
        return []
    return [n for n, row in enumerate(values, start=1) if not any(row)]


def _holds(code: Code, test: ast.expr, parameter: str, dimensions: int) -> bool | None:
    """Whether a test holds for a parameter of so many dimensions; None where that can't be told."""
    if isinstance(test, ast.BoolOp):
        parts = [_holds(code, one, parameter, dimensions) for one in test.values]
        if None in parts:
            return None
        return all(parts) if isinstance(test.op, ast.And) else any(parts)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = _holds(code, test.operand, parameter, dimensions)
        return None if inner is None else not inner
    if not isinstance(test, ast.Compare) or ast.unparse(test.left) not in _dimensions(parameter):
        return None
    left, result = dimensions, True
    for operation, right in zip(test.ops, test.comparators, strict=True):
        value = constant(code, right)
        compare = _COMPARED.get(type(operation))
        if compare is None or not isinstance(value, int):
            return None
        result, left = result and compare(left, value), value
    return result


def _dimensions(parameter: str) -> set[str]:
    return {
        f"{parameter}.ndim",
        f"{parameter}.dim()",
        f"{parameter}.ndimension()",
        f"len({parameter}.shape)",
        f"len({parameter}.size())",
    }


def _said(missing: list[int]) -> str:
    return " and ".join(map(str, missing)) + (" dimension" if missing == [1] else " dimensions")
