"""The branches that sort parameters into lists: WD505."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torchdecay.integrations.lint.code import Code
from torchdecay.integrations.lint.parameters import Loop, parameter_loops
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
