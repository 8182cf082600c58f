"""The branches that sort parameters into lists: WD505, WD516."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

from torchdecay.integrations.lint.code import FUNCTIONS, Code, is_method, names_in
from torchdecay.integrations.lint.layers import Kind, kinds
from torchdecay.integrations.lint.parameters import OPTIONS, Loop, groups, parameter_loops
from torchdecay.integrations.lint.rule import Hit, rule
from torchdecay.integrations.lint.sorting import BIAS, MATRIX, Sort, sorts


@rule(
    "WD505",
    "error",
    "what a loop is for stands behind it",
    why="It runs once, when the loop is over: on the last parameter or group, and on no other.",
    fix="Indent it into the loop.",
    example="""
        decay, spared = [], []
        for name, param in model.named_parameters():
            print(name)
        (spared if "bias" in name else decay).append(param)
    """,
    mends={"(spared if": "    (spared if"},
)
def outside(code: Code) -> Iterator[Hit]:
    """What is done with the last parameter behind a loop over parameters, or with the last group behind its loop."""
    yield from _last_group(code)
    for loop in parameter_loops(code):
        if not isinstance(loop.node, ast.For) or any(isinstance(one, ast.Break) for one in ast.walk(loop.node)):
            continue
        # The name, the parameter, and what the loop says of the last one.
        asked = {loop.name, loop.parameter, *names_in(*loop.node.body, stored=True)}
        block = code.block(loop.node)
        for after in block[block.index(loop.node) + 1 :]:
            test = _test_of(after)
            if test is not None and not asked.isdisjoint(names_in(test)) and _keeps(after, loop):
                yield Hit(test, f'"{ast.unparse(test)}" stands behind the loop over {ast.unparse(loop.model)}')
            if isinstance(after, ast.AugAssign | ast.Expr) and _adds_group(code, after, loop):
                yield Hit(after, f"{loop.parameter} is put into a group behind the loop over {ast.unparse(loop.model)}")
            if loop.parameter in names_in(after, stored=True):
                break


def _last_group(code: Code) -> Iterator[Hit]:
    """An option that is set behind a loop over param_groups, in its last group alone."""
    for loop in code.all(ast.For):
        name = loop.target.id if isinstance(loop.target, ast.Name) else ""
        leaves = any(isinstance(one, ast.Break) for one in ast.walk(loop))
        if not name or leaves or not ast.unparse(loop.iter).endswith(".param_groups"):
            continue
        inside = {key for one in ast.walk(loop) if (key := _option_set(one, name))}
        block = code.block(loop)
        for after in block[block.index(loop) + 1 :]:
            if name in names_in(after, stored=True):
                break
            target = after.targets[0] if isinstance(after, ast.Assign) else None
            key = _option_set(target, name)
            if target is not None and key in OPTIONS - inside:
                yield Hit(target, f"{key} is set behind the loop over {ast.unparse(loop.iter)}")


def _option_set(node: ast.AST | None, group: str) -> str:
    """The option of a group that is written here."""
    is_written = isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
    if not is_written or not isinstance(node.slice, ast.Constant) or ast.unparse(node.value) != group:  # type: ignore[union-attr]
        return ""
    return str(node.slice.value)  # type: ignore[union-attr]


def _adds_group(code: Code, statement: ast.stmt, loop: Loop) -> bool:
    """Whether a statement adds a group of the loop's last parameter to a list."""
    if isinstance(statement, ast.Expr) and not ast.unparse(statement).partition("(")[0].endswith(".append"):
        return False
    written = (one.items["params"] for one in groups(code) if code.inside(one.node, statement))
    return loop.parameter in names_in(*written)


def _test_of(statement: ast.stmt) -> ast.expr | None:
    """What decides a statement: of an `if`, or of the list in `(a if test else b).append(p)`."""
    if isinstance(statement, ast.If):
        return statement.test
    call = statement.value if isinstance(statement, ast.Expr) else None
    held = call.func.value if is_method(call) else None
    return held.test if isinstance(held, ast.IfExp) else None


def _keeps(branch: ast.stmt, loop: Loop) -> bool:
    """Whether a branch puts the loop's parameter into a list."""
    for node in ast.walk(branch):
        added = [node.value] if isinstance(node, ast.AugAssign) else node.args if is_method(node, "append") else []
        if loop.parameter in names_in(*added):
            return True
    return False


_MOST_DIMENSIONS = 5


@rule(
    "WD516",
    "warning",
    "a split that sorts nothing, or loses parameters",
    why="Both branches do the same, so all parameters decay alike; or what neither list takes is not trained at all.",
    fix="Let one list take what the other does not: `else`, or `not` the same test.",
    example="""
        from torch.optim import AdamW

        decay = [p for p in model.parameters() if p.ndim > 2]
        spared = [p for p in model.parameters() if p.ndim < 2]
        optimizer = AdamW([{"params": decay}, {"params": spared, "weight_decay": 0.0}], weight_decay=0.1)
    """,
    mends={"p.ndim > 2": "p.ndim >= 2"},
)
def split(code: Code) -> Iterator[Hit]:
    """Equal branches, equal conditions of two groups, and parameters that no list takes."""
    for loop in parameter_loops(code):
        for node in ast.walk(loop.node) if isinstance(loop.node, ast.For) else ():
            if isinstance(node, ast.If) and _keeps(node, loop) and _done(node.body) == _done(node.orelse):
                yield Hit(node.test, f'both branches of "{ast.unparse(node.test)}" do the same')
    yield from _same_either_way(code)
    yield from _returned_alike(code)
    yield from _alike(code)
    for sort in sorts(code):
        yield from _lost(code, sort)


def _done(body: list[ast.stmt]) -> list[str]:
    """What a branch does, as text; `list += [x]` as `list.append(x)`."""
    return [
        f"{ast.unparse(one.target)}.append({ast.unparse(one.value)[1:-1]})"
        if isinstance(one, ast.AugAssign) and isinstance(one.op, ast.Add) and isinstance(one.value, ast.List)
        else ast.unparse(one)
        for one in body
    ]


def _same_either_way(code: Code) -> Iterator[Hit]:
    """Choices between equals: in a loop over parameters, in a comprehension's groups, and of a group's weight_decay."""
    inside = [one for loop in parameter_loops(code) if isinstance(loop.node, ast.For) for one in ast.walk(loop.node)]
    made = [one for group in groups(code) for one in (code.parents.get(group.node), group.items.get("weight_decay"))]
    for node in dict.fromkeys([*inside, *made]):
        if isinstance(node, ast.IfExp) and ast.dump(node.body) == ast.dump(node.orelse):
            yield Hit(node, f"{ast.unparse(node)} is the same either way")


def _returned_alike(code: Code) -> Iterator[Hit]:
    """A helper that returns one group whether its test holds or not."""
    written = {one.node for one in groups(code)}
    for node in code.all(ast.If):
        home, last = code.function_of(node), node.body[-1]
        beside = code.block(node)
        other = node.orelse[-1] if node.orelse else next(iter(beside[beside.index(node) + 1 :]), None)
        if isinstance(home, FUNCTIONS) and isinstance(last, ast.Return) and isinstance(other, ast.Return):
            same = last.value is not None and other.value is not None and ast.dump(last.value) == ast.dump(other.value)
            if same and last.value in written:
                yield Hit(node.test, f'both branches of "{ast.unparse(node.test)}" return the same group')


def _alike(code: Code) -> Iterator[Hit]:
    """Two groups side by side that take the parameters of one condition, with options that differ."""
    for one, other in itertools.combinations(sorted(groups(code), key=lambda group: group.node.lineno), 2):
        if code.parents.get(one.node) is code.parents.get(other.node):
            first, then = (code.value(each.items["params"]) for each in (one, other))
            if isinstance(first, ast.ListComp) and first.generators[0].ifs and ast.dump(first) == ast.dump(then):
                yield Hit(other.items["params"], f"the same parameters as in the group of line {first.lineno}")


def _lost(code: Code, sort: Sort) -> Iterator[Hit]:
    """Parameters that no list takes where others are in two: by their dimensions, else norms and biases by name."""
    if not sort.is_whole:
        return
    by_dimensions = {n: sort.is_kept(Kind("", n)) for n in range(1, _MOST_DIMENSIONS + 1)}
    missing = [n for n, kept in by_dimensions.items() if kept is False]
    if None not in by_dimensions.values():
        lists = {sort.outcome(Kind("", n)) for n, kept in by_dimensions.items() if kept}
        if missing and len(lists) > sort.is_loop:
            said = " and ".join(map(str, missing)) + (" dimension" if missing == [1] else " dimensions")
            yield Hit(sort.node, f"parameters of {said} are in no list" + ("" if sort.is_loop else f" of {sort.model}"))
    elif (matrix := sort.matrix()) is not None and sort.is_kept(BIAS) and sort.outcome(matrix) != sort.outcome(BIAS):
        built = [one for one in kinds(code) if one.part == "norm" or matrix == MATRIX]
        some = built if kinds(code) else [Kind("norm.weight", 1)]
        lost = next((one for one in some if sort.is_kept(one) is False), None)
        if lost is not None:
            yield Hit(sort.node, f'"{lost.name}" is in no list' if built else "weights of norms are in no list")
