"""Lists of name fragments that choose who is spared: WD504, WD506."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torchdecay.findings.rule import Severity
from torchdecay.integrations.lint.code import Code
from torchdecay.integrations.lint.constants import constant, strings, written
from torchdecay.integrations.lint.layers import Kind, kinds
from torchdecay.integrations.lint.optimizers import optimizers_made
from torchdecay.integrations.lint.outcomes import Passage
from torchdecay.integrations.lint.parameters import Group, groups_in, parameter_loops, reaching
from torchdecay.integrations.lint.rule import Edit, Hit, rule
from torchdecay.integrations.lint.sorting import BIAS, MATRIX, Sort, sorts

# No model has a parameter of such a full name: a class in capitals, a dot in front, "bias" at the root.
_FRAGMENT = re.compile(r"bias|\..+|[A-Za-z]*Norm\w*(\.\w+)?|(layer_?norm|layernorm)(\.weight|\.bias)?")


@rule(
    "WD504",
    "error",
    "a full name is looked for in a list of fragments",
    why='`"layer.0.bias" in ["bias"]` is False: no name is in the list, and nothing is spared.',
    fix="Write any(part in name for part in no_decay).",
    example="""
        import torch

        no_decay = ["bias", "LayerNorm.weight"]
        decay = [p for n, p in model.named_parameters() if n not in no_decay]
        spared = [p for n, p in model.named_parameters() if n in no_decay]
        groups = [{"params": decay, "weight_decay": 0.01}, {"params": spared, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=5e-5)
    """,
    mends={
        "n not in no_decay": "not any(part in n for part in no_decay)",
        "n in no_decay": "any(part in n for part in no_decay)",
    },
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


_NORMED = ("norm.weight", "norm1.weight", "ln_1.weight", "bn1.weight", "layer_norm.weight")
"""Names that norms have in models of others."""
_CALLED_SO = re.compile(r"norm|bias|ln|bn", re.IGNORECASE)


@rule(
    "WD506",
    "warning",
    "a list of names misses norms, or hits weights",
    why='Lists are handed from one model to the next: "LayerNorm.weight" is in names of BERT, "norm1.weight" is not.',
    fix="Go by what a module is, not by its name: td.param_groups(model, wd).",
    example="""
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
    mends={"LayerNorm.weight": "norm1.weight"},
)
def fragments_that_miss(code: Code) -> Iterator[Hit]:
    """Names that sort norms as weights, or weights as norms, held against the layers of this file; else a note."""
    yield from _swapped(code)
    made = optimizers_made(code)
    # Under plain SGD it is common practice that everything decays.
    mild: Severity | None = "info" if made and all(one.card.coupling == "coupled" for one in made) else None
    seen, built = set[ast.AST](), kinds(code)
    for sort in sorts(code):
        node, kept, bias = _where(code, sort), sort.matrix(), sort.outcome(BIAS)
        matrix = None if kept is None else sort.outcome(kept)
        if node in seen or matrix is None or bias is None:
            continue
        parts = ast.unparse(node)
        if matrix == bias:
            spares_norms = any(
                sort.outcome(Kind(one, 1)) not in (matrix, None) for one in (*_NORMED, "LayerNorm.weight")
            )
            missed = [one for one in built if one.part == "bias" and sort.outcome(one) == matrix]
            if spares_norms and missed:
                seen.add(node)
                yield Hit(node, f'{parts} sorts "{missed[0].name}", a bias of this file, as weights are', mild)
            continue
        seen.add(node)
        norms = [one for one in built if one.part == "norm"]
        missed = [one for one in norms if sort.outcome(one) == matrix]
        struck = [
            one
            for one in built
            if one.part == "matrix" and sort.outcome(one) == bias and _CALLED_SO.search(one.name.split(".")[-2])
        ]
        if missed:
            yield Hit(node, f'{parts} sorts "{missed[0].name}", a norm of this file, as weights are', mild)
        elif struck and struck[0].name not in {one.name for one in norms}:
            yield Hit(node, f'{parts} sorts "{struck[0].name}", which is no norm, as biases are', mild)
        elif not built and all(sort.outcome(Kind(one, 1)) == matrix for one in _NORMED):
            is_bert = sort.outcome(Kind("LayerNorm.weight", 1)) != matrix
            if not is_bert:
                yield Hit(node, f"{parts} spares biases, and no norm", "info")
            elif not re.search("bert", code.text, re.IGNORECASE):
                yield Hit(node, f"{parts} spares norms only where they are called so, as in BERT", "info")


def _where(code: Code, sort: Sort) -> ast.expr:
    """The list that a test goes through, or the test."""
    for node in ast.walk(sort.node):
        test = node.elt if isinstance(node, ast.GeneratorExp | ast.ListComp) else None
        if isinstance(test, ast.Compare) and strings(code, node.generators[0].iter):  # type: ignore[attr-defined]
            return written(code, node.generators[0].iter)  # type: ignore[attr-defined]
    return sort.node


def _swapped(code: Code) -> Iterator[Hit]:
    """Groups in which biases decay, and weights do not."""
    for made in optimizers_made(code):
        taken = groups_in(code, made.params)
        for sort in sorts(code):
            of_bias, of_matrix = (_group_of(code, sort, taken, kind) for kind in (BIAS, MATRIX))
            if of_bias is None or of_matrix is None:
                continue
            decays = [
                constant(code, one.items["weight_decay"]) if "weight_decay" in one.items else made.decay(code)
                for one in (of_bias, of_matrix)
            ]
            if decays[1] == 0 and decays[0] != 0:
                yield Hit(of_bias.node, f"biases of {sort.model} decay in this group, and its weights do not")


def _group_of(code: Code, sort: Sort, among: list[Group], kind: Kind) -> Group | None:
    """The group in which a parameter ends; None where that can't be told."""
    found = []
    for one in among:
        params = one.items["params"]
        loops = [loop for loop in sort.loops if code.parents.get(loop.node) is code.value(params)]
        taken = [sort.outcome(kind)] if sort.is_loop else [Passage(code, loop, kind).outcome() for loop in loops]
        texts = [text for each in taken for text in each or ()]
        if any(not sort.is_loop or text.startswith(f"{ast.unparse(params)}.append(") for text in texts):
            found.append(one)
    return found[0] if len(found) == 1 else None
