"""What single expressions of a source say by themselves."""

from __future__ import annotations

import ast

from torchdecay.plans.roles.words import word_set, words

_POSITIONAL = word_set("pos position positions idx index indices offset offsets rel relative distance arange")


def is_none(node: ast.expr) -> bool:
    """Whether an index adds an axis."""
    if isinstance(node, ast.Constant):
        return node.value is None
    return isinstance(node, ast.Attribute) and node.attr == "newaxis"


def has_root(node: ast.expr) -> bool:
    """Whether an expression takes a square root."""
    return any(
        isinstance(one, ast.Call) and getattr(one.func, "attr", getattr(one.func, "id", "")) == "sqrt"
        for one in ast.walk(node)
    )


def by_position(node: ast.expr) -> bool:
    """Whether an index counts positions: a slice with bounds, or a variable that is named so."""
    for one in ast.walk(node):
        if isinstance(one, ast.Slice) and (one.lower is not None or one.upper is not None):
            return True
        name = getattr(one, "id", getattr(one, "attr", ""))
        if isinstance(name, str) and _POSITIONAL & set(words(name)):
            return True
    return False


def is_one(node: ast.expr) -> bool:
    """Whether an expression spells 1, or a tensor of ones."""
    if isinstance(node, ast.Call):
        return getattr(node.func, "attr", "") in ("ones", "ones_like")
    return number_of(node) == 1


def pattern_of(node: ast.expr) -> str:
    """A name that is put together from text and numbers, with * for each number."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "*" for one in node.values)
    return ""


def axes_of(text: str) -> set[str]:
    """The axes of one operand of an einsum, in torch's spelling or in words."""
    parts = text.replace("...", " ").split()
    return set(parts) if any(len(part) > 1 for part in parts) and len(parts) > 1 else set("".join(parts))


def number_of(node: ast.expr) -> float | None:
    """The number that an expression spells, if it is one."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return None
    return float(value) if isinstance(value, (int, float)) else None
