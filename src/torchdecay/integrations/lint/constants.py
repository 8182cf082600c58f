"""What an expression is worth where that can be read: literals, constants, defaults, options of a command line."""

from __future__ import annotations

import ast
import operator
from typing import Any, Final

from torchdecay.integrations.lint.code import Code, is_method


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()
"""What can't be read is not guessed."""

_OPERATIONS: dict[type[ast.AST], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def constant(code: Code, node: ast.expr | None, *, depth: int = 12) -> Any:
    """The number, text, bool or None that an expression is; defaults of parameters and of options count; or UNKNOWN."""
    if node is None or not depth:
        return UNKNOWN
    node, less = code.value(node), depth - 1
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp | ast.BinOp):
        parts = [node.operand] if isinstance(node, ast.UnaryOp) else [node.left, node.right]
        return _calculated(node.op, [constant(code, part, depth=less) for part in parts])
    if isinstance(node, ast.Name):
        found = code.binding(node)
        return constant(code, found.value, depth=less) if found is not None and found.kind == "param" else UNKNOWN
    if isinstance(node, ast.Attribute):
        return constant(code, field(code, node), depth=less)
    if isinstance(node, ast.Call) and len(node.args) == 1 and code.dotted(node.func) in ("float", "int"):
        try:
            return float(constant(code, node.args[0], depth=less))
        except (TypeError, ValueError):
            return UNKNOWN
    if isinstance(node, ast.Subscript):
        return constant(code, entry(code, node), depth=less)
    return UNKNOWN


def entry(code: Code, node: ast.Subscript) -> ast.expr | None:
    """What stands under a key of a dictionary that is written out and never changed."""
    changed = ast.unparse(node.value) in code.changed
    found = {} if changed else items(code, code.value(node.value))
    return found.get(str(node.slice.value)) if isinstance(node.slice, ast.Constant) else None


def number(code: Code, node: ast.expr | None) -> float | None:
    """The number that an expression is; None for anything else, and where it can't be told."""
    value = constant(code, node)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _calculated(operation: ast.AST, parts: list[Any]) -> Any:
    known = all(isinstance(part, int | float) for part in parts)
    if not known or type(operation) not in _OPERATIONS:
        return UNKNOWN
    try:
        return _OPERATIONS[type(operation)](*parts)
    except (ArithmeticError, ValueError):
        return UNKNOWN


def items(code: Code, node: ast.AST) -> dict[str, ast.expr]:
    """The entries of a dictionary display or of `dict(...)` whose keys are text."""
    if isinstance(node, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        return {key: value for key, value in zip(keys, node.values, strict=True) if isinstance(key, str)}
    if isinstance(node, ast.Call) and code.dotted(node.func) == "dict":
        return {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    return {}


# ── Lists of text ──


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


# ── Options and fields ──


def field(code: Code, node: ast.Attribute) -> ast.expr | None:
    """The default behind `args.weight_decay`: of argparse, of a dataclass, of a class or a method of this file."""
    base = code.value(node.value)
    if is_method(base, "parse_args"):
        found = [one for one in code.all(ast.Call) if option(one) == node.attr]
        return keyword(found[0], "default") if len(found) == 1 else None
    owner: ast.AST | None = None
    if isinstance(base, ast.Call):
        if (given := keyword(base, node.attr)) is not None:
            return given
        owner = code.definition(base.func)
    elif isinstance(base, ast.Name) and base.id != "self":
        found_base = code.binding(base)
        if found_base is not None and found_base.kind == "def":
            owner = found_base.node
        elif found_base is not None and isinstance(found_base.node, ast.arg):
            annotation = found_base.node.annotation
            owner = code.definition(annotation) if annotation is not None else None
    elif isinstance(base, ast.Attribute) and base.attr == "hparams":
        # Lightning's save_hyperparameters() keeps what __init__ was given.
        home = code.class_of(node)
        makers = code.bindings[home].get("__init__", []) if home is not None else []
        names = code.bindings[makers[0].node].get(node.attr, []) if makers else []
        return names[0].value if len(names) == 1 and names[0].kind == "param" else None
    else:
        owner = code.class_of(node)
    if not isinstance(owner, ast.ClassDef):
        return None
    found_field = code.bindings[owner].get(node.attr, [])
    value = found_field[0].value if len(found_field) == 1 and found_field[0].kind == "value" else None
    if isinstance(value, ast.Call) and code.dotted(value.func).rpartition(".")[2] in ("field", "Field"):
        return keyword(value, "default") or (value.args[0] if value.args else None)
    return value


def option(call: ast.Call) -> str:
    """The name under which argparse keeps an option; "" for other calls."""
    if not is_method(call, "add_argument"):
        return ""
    dest = keyword(call, "dest")
    if isinstance(dest, ast.Constant) and isinstance(dest.value, str):
        return dest.value
    names = [one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    long = [name for name in names if name.startswith("--")] or names
    return long[0].lstrip("-").replace("-", "_") if long else ""


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """What a call gives a keyword."""
    return next((one.value for one in call.keywords if one.arg == name), None)
