"""Lists of name fragments that choose who is spared: WD504, WD506."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torchdecay.integrations.lint.code import Code
from torchdecay.integrations.lint.parameters import parameter_loops, reaching
from torchdecay.integrations.lint.rule import Edit, Hit, rule

# No model has a parameter of such a full name: a class in capitals, a dot in front, "bias" at the root.
_FRAGMENT = re.compile(r"bias|\..+|[A-Za-z]*Norm\w*(\.\w+)?|(layer_?norm|layernorm)(\.weight|\.bias)?")


def _written(code: Code, node: ast.expr) -> ast.expr:
    """The list behind a name: what it was given, or the default of a parameter."""
    behind = code.value(node)
    found = code.binding(behind) if isinstance(behind, ast.Name) else None
    return found.value if found is not None and found.kind == "param" and found.value is not None else behind


def strings(code: Code, node: ast.expr) -> list[str] | None:
    """The texts of a list that is written out and never changed."""
    behind = _written(code, node)
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


_NORMS = ("LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "InstanceNorm2d")
_MATRICES = ("Linear", "Embedding", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose2d", "Bilinear")


@rule(
    "WD506",
    "warning",
    "a list of names misses norms, or hits weights",
    why='Lists are handed from one model to the next: "LayerNorm.weight" is in names of BERT, "norm1.weight" is not.',
    fix="Go by what a module is, not by its name: td.param_groups(model, wd).",
    bad="""
        from torch import nn
        from torch.optim import AdamW


        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm1 = nn.LayerNorm(64)
                self.proj = nn.Linear(64, 64)


        def optimizer(model):
            no_decay = ["bias", "LayerNorm.weight"]
            named = list(model.named_parameters())
            decay = [p for n, p in named if not any(nd in n for nd in no_decay)]
            spared = [p for n, p in named if any(nd in n for nd in no_decay)]
            return AdamW([{"params": decay, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}])
    """,
    good="""
        from torch import nn
        from torch.optim import AdamW


        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm1 = nn.LayerNorm(64)
                self.proj = nn.Linear(64, 64)


        def optimizer(model):
            no_decay = ["bias", "norm1.weight"]
            named = list(model.named_parameters())
            decay = [p for n, p in named if not any(nd in n for nd in no_decay)]
            spared = [p for n, p in named if any(nd in n for nd in no_decay)]
            return AdamW([{"params": decay, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}])
    """,
)
def fragments_that_miss(code: Code) -> Iterator[Hit]:
    """Lists of fragments that reach groups, held against the layers of this file; a note where none are to be seen."""
    seen = set[ast.AST]()
    norms, matrices = _layers(code, _NORMS), _layers(code, _MATRICES)
    listings = [(_written(code, one), strings(code, one)) for one in _searched(code)]
    for home, parts in [*listings, *_inline(code)]:
        # Both halves of a model are looked up in the same list.
        if parts is None or home in seen or not any(one.strip("._").lower().startswith("bias") for one in parts):
            continue
        seen.add(home)
        missed = [one for one in norms if not any(part in f"{one}.weight" for part in parts)]
        struck = [one for one in matrices if any(part in f"{one}.weight" for part in parts)]
        if missed:
            yield Hit(home, f'no part of {parts} is in "{missed[0]}.weight", a norm of this file')
        elif struck and not norms.keys() & matrices.keys():
            yield Hit(home, f'a part of {parts} is in "{struck[0]}.weight", which is no norm')
        elif not norms and _only_bert(parts) and not re.search("bert", code.text, re.IGNORECASE):
            yield Hit(home, f"{parts} spares norms only where they are called so, as in BERT", "info")


def _searched(code: Code) -> Iterator[ast.expr]:
    """The lists of `any(part in name for part in listing)` that decide about groups."""
    reached = reaching(code)
    for node in code.all(ast.GeneratorExp):
        call, test = code.parents[node], node.elt
        is_any = isinstance(call, ast.Call) and code.dotted(call.func) == "any" and len(node.generators) == 1
        if is_any and node in reached and isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.In):
            part = node.generators[0]
            yield from [part.iter] if ast.unparse(test.left) == ast.unparse(part.target) else []


def _inline(code: Code) -> Iterator[tuple[ast.expr, list[str]]]:
    """Conditions of nothing but `"part" in name or "other" in name` that decide about groups, with their parts."""
    reached = reaching(code)
    for node in code.all(ast.BoolOp):
        tests = [one for one in node.values if isinstance(one, ast.Compare) and isinstance(one.ops[0], ast.In)]
        parts = [one.left.value for one in tests if isinstance(one.left, ast.Constant)]
        names = {ast.unparse(one.comparators[0]) for one in tests}
        words = [one for one in parts if isinstance(one, str)]
        if isinstance(node.op, ast.Or) and node in reached and len(words) == len(node.values) and len(names) == 1:
            yield node, words


def _layers(code: Code, classes: tuple[str, ...]) -> dict[str, None]:
    """The attributes of self that hold layers of these classes of torch."""
    return {
        name: None
        for (home, name), values in code.attributes.items()
        if home is not None
        and len(values) == 1
        and isinstance(values[0], ast.Call)
        and code.dotted(values[0].func) in {f"torch.nn.{one}" for one in classes}
    }


def _only_bert(parts: list[str]) -> bool:
    """Whether all parts but biases name norms as BERT does."""
    rest = [one for one in parts if not one.strip("._").lower().startswith("bias")]
    return bool(rest) and all(one.startswith("LayerNorm.") for one in rest)
