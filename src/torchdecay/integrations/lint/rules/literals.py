"""Numbers that are text: WD509."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torchdecay.integrations.lint.code import Code
from torchdecay.integrations.lint.constants import entry, keyword, option
from torchdecay.integrations.lint.optimizers import optimizers_made
from torchdecay.integrations.lint.parameters import groups
from torchdecay.integrations.lint.rule import Edit, Hit, rule

DECAY = re.compile(r"(adam_|optimizer_|optim_)?weight_?decay|wd")
"""What options, fields and keys for weight decay are called."""
_NUMBER = re.compile(r"\s*(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")


@rule(
    "WD509",
    "error",
    "a weight_decay that is text",
    why='"1e-4" is no number: torch compares it with 0 and raises, or in a group fails at the first step.',
    fix="Write the number, or give the option type=float.",
    example="""
        import torch

        optimizer = torch.optim.SGD(weights, lr=0.1, weight_decay="1e-4")
    """,
    mends={'"1e-4"': "1e-4"},
)
def text(code: Code) -> Iterator[Hit]:
    """Text for a number in a constructor or a group, and options of argparse that stay text, or whole numbers."""
    said = [*(one.options for one in optimizers_made(code)), *(one.items for one in groups(code))]
    for value in (one.get("weight_decay") for one in said):
        behind = code.value(value) if value is not None else None
        if isinstance(behind, ast.Subscript):
            behind = entry(code, behind) or behind
        if isinstance(behind, ast.Constant) and isinstance(behind.value, str):
            edits = (Edit(behind, behind.value.strip()),) if _NUMBER.fullmatch(behind.value) else ()
            yield Hit(behind, f"weight_decay is the text {ast.unparse(behind)}", edits=edits)
        elif behind is not None and _is_from_outside(code, behind):
            yield Hit(behind, f"weight_decay is the text of {ast.unparse(behind)}")
    used = {ast.unparse(one.value) for one in code.all(ast.Attribute) if one.attr == "parse_args"}
    for call in code.all(ast.Call):
        name = option(call)
        if not DECAY.fullmatch(name) or ast.unparse(call.func).rpartition(".")[0] not in used:
            continue
        kind = keyword(call, "type")
        if any(one.arg in (None, "action", "choices") for one in call.keywords) or _is_converted(code, name):
            continue
        if kind is None or code.dotted(kind) == "str":
            what = f'"{name}" from the command line is text: type=float is missing'
            yield Hit(call.args[0] if call.args else call, what)
        elif code.dotted(kind) == "int":
            yield Hit(kind, f'"{name}" takes whole numbers only')


def _is_from_outside(code: Code, value: ast.expr) -> bool:
    """Whether this comes from the environment or the command line, where everything is text."""
    if isinstance(value, ast.Call):
        return code.dotted(value.func) in ("os.getenv", "os.environ.get")
    return isinstance(value, ast.Subscript) and code.dotted(value.value) in ("os.environ", "sys.argv")


def _is_converted(code: Code, name: str) -> bool:
    """Whether somebody makes a number of it, or of what is called so."""
    return any(
        code.dotted(call.func) in ("float", "ast.literal_eval", "eval", "literal_eval")
        for call in code.all(ast.Call)
        if call.args and name in ast.unparse(call.args[0])
    )
