"""Lists of name fragments that choose who is spared: WD504."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torchdecay.integrations.lint.code import Code
from torchdecay.integrations.lint.parameters import parameter_loops, reaching
from torchdecay.integrations.lint.rule import Edit, Hit, rule

# No model has a parameter of such a full name: a class in capitals, a dot in front, "bias" at the root.
_FRAGMENT = re.compile(r"bias|\..+|[A-Za-z]*Norm\w*(\.\w+)?|(layer_?norm|layernorm)(\.weight|\.bias)?")


def strings(code: Code, node: ast.expr) -> list[str] | None:
    """The texts of a list that is written out and never changed."""
    behind = code.value(node)
    changed = isinstance(node, ast.Name | ast.Attribute) and code.changed.get(ast.unparse(node))
    if changed or not isinstance(behind, ast.List | ast.Tuple | ast.Set):
        return None
    found = [one.value for one in behind.elts if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return found if found and len(found) == len(behind.elts) else None


@rule(
    "WD504",
    "error",
    "a full name is looked for in a list of fragments",
    why='`"layer.0.bias" in ["bias"]` is False: no name is in the list, and nothing is spared.',
    fix="Write any(part in name for part in no_decay).",
    bad="""
        import torch

        no_decay = ["bias", "LayerNorm.weight"]
        decay = [p for n, p in model.named_parameters() if n not in no_decay]
        spared = [p for n, p in model.named_parameters() if n in no_decay]
        groups = [{"params": decay, "weight_decay": 0.01}, {"params": spared, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=5e-5)
    """,
    good="""
        import torch

        no_decay = ["bias", "LayerNorm.weight"]
        decay = [p for n, p in model.named_parameters() if not any(part in n for part in no_decay)]
        spared = [p for n, p in model.named_parameters() if any(part in n for part in no_decay)]
        groups = [{"params": decay, "weight_decay": 0.01}, {"params": spared, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=5e-5)
    """,
)
def membership(code: Code) -> Iterator[Hit]:
    """`name in no_decay`, where the list is visible and holds fragments that are no full names."""
    names = {(loop.node, loop.name) for loop in parameter_loops(code) if loop.name}
    reached = reaching(code)
    for node in code.all(ast.Compare):
        left, listing = node.left, node.comparators[0]
        if len(node.ops) > 1 or not isinstance(node.ops[0], ast.In | ast.NotIn) or not isinstance(left, ast.Name):
            continue
        binding = code.binding(left)
        if binding is None or (binding.node, left.id) not in names or node not in reached:
            continue
        fragments = [one for one in strings(code, listing) or () if _FRAGMENT.fullmatch(one)]
        if fragments:
            negated = "not " if isinstance(node.ops[0], ast.NotIn) else ""
            text = f"{negated}any(part in {left.id} for part in {ast.unparse(listing)})"
            said = f'"{ast.unparse(node)}" compares full names with fragments such as "{fragments[0]}"'
            yield Hit(node, said, edits=(Edit(node, text),))
