"""Groups beside each other: WD512, WD513."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torchdecay.integrations.lint.code import Code
from torchdecay.integrations.lint.constants import items, number
from torchdecay.integrations.lint.optimizers import assigned_to, optimizers_made
from torchdecay.integrations.lint.parameters import Group, groups, groups_in, parameter_loops
from torchdecay.integrations.lint.rule import Hit, rule


@rule(
    "WD512",
    "warning",
    "a later group takes another weight_decay",
    why="add_param_group gives a group that says none the constructor's, and the groups before it have others.",
    fix='Say "weight_decay" in it.',
    bad="""
        from torch.optim import AdamW

        optimizer = AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-3)
        optimizer.add_param_group({"params": head.bias})
    """,
    good="""
        from torch.optim import AdamW

        optimizer = AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-3)
        optimizer.add_param_group({"params": head.bias, "weight_decay": 0.0})
    """,
)
def later(code: Code) -> Iterator[Hit]:
    """add_param_group without weight_decay where all groups of the constructor say one, and none the constructor's."""
    for made in optimizers_made(code):
        own, names = made.decay(code), list(assigned_to(code, made.call))
        found = groups_in(code, made.params) or []
        decays = [number(code, one.items.get("weight_decay")) for one in found]
        if not isinstance(own, int | float) or not decays or None in decays or float(own) in decays:
            continue
        for call in code.all(ast.Call):
            if not isinstance(call.func, ast.Attribute) or call.func.attr != "add_param_group" or not call.args:
                continue
            group = items(code, code.value(call.args[0]))
            same = ast.unparse(call.func.value) in names and code.function_of(call) is code.function_of(made.call)
            if same and "params" in group and "weight_decay" not in group:
                yield Hit(call, f"this group gets weight_decay={float(own):g}, and those before it {_numbers(decays)}")


def _numbers(decays: list[float | None]) -> str:
    return " and ".join(dict.fromkeys(f"{one:g}" for one in decays if one is not None))


@rule(
    "WD513",
    "warning",
    "parameters are sorted and joined again",
    why="Both lists get the same weight_decay: what was to be spared decays.",
    fix="Give the second group weight_decay=0.0.",
    bad="""
        from torch.optim import AdamW

        decay, spared = [], []
        for name, p in model.named_parameters():
            if p.ndim < 2:
                spared.append(p)
            else:
                decay.append(p)
        optimizer = AdamW([{"params": decay}, {"params": spared}], lr=1e-3, weight_decay=0.1)
    """,
    good="""
        from torch.optim import AdamW

        decay, spared = [], []
        for name, p in model.named_parameters():
            if p.ndim < 2:
                spared.append(p)
            else:
                decay.append(p)
        groups = [{"params": decay}, {"params": spared, "weight_decay": 0.0}]
        optimizer = AdamW(groups, lr=1e-3, weight_decay=0.1)
    """,
)
def joined(code: Code) -> Iterator[Hit]:
    """The two lists of one split in groups of equal options, or added to one list that an optimizer gets."""
    splits = list(_splits(code))
    for made in optimizers_made(code):
        decay, both = made.decay(code), made.params
        if isinstance(both, ast.List) and len(both.elts) == 2 and all(isinstance(e, ast.Starred) for e in both.elts):
            both = ast.BinOp(both.elts[0].value, ast.Add(), both.elts[1].value)  # type: ignore[attr-defined]
        if isinstance(both, ast.BinOp) and {ast.unparse(both.left), ast.unparse(both.right)} in splits and decay != 0:
            yield Hit(made.call.func, f"{made.card.name} gets {ast.unparse(both)}, which were sorted before")
    told = set[ast.AST | None]()
    for one in groups(code):
        up = code.parents.get(one.node)
        beside = [other for other in groups(code) if code.parents.get(other.node) is up and other is not one]
        for other in beside if isinstance(up, ast.List) else ():
            names = {ast.unparse(one.items["params"]), ast.unparse(other.items["params"])}
            if names in splits and _options(one) == _options(other) and up not in told and not _is_spared(code, one):
                told.add(up)
                yield Hit(other.node, f"the groups of {' and '.join(sorted(names))} have the same options")


def _options(group: Group) -> dict[str, str]:
    """What a group says beside its parameters and its name."""
    return {key: ast.unparse(value) for key, value in group.items.items() if key not in ("params", "name")}


def _is_spared(code: Code, group: Group) -> bool:
    """Whether neither group decays, so that it is all the same."""
    return number(code, group.items.get("weight_decay")) == 0


def _splits(code: Code) -> Iterator[set[str]]:
    """Pairs of lists into which one loop over parameters sorts, by the branches of an `if` about decay."""
    for loop in parameter_loops(code):
        if isinstance(loop.node, ast.comprehension):
            continue
        for branch in ast.walk(loop.node):
            if isinstance(branch, ast.If) and len(branch.orelse) == 1:
                names = {_appended(branch.body, loop.parameter), _appended(branch.orelse, loop.parameter)}
                words = " ".join(names).lower()
                if "" not in names and len(names) == 2 and ("decay" in words or "wd" in words or "bias" in words):
                    yield names


def _appended(body: list[ast.stmt], parameter: str) -> str:
    """The list to which a branch appends the parameter, and does nothing else."""
    node = body[-1].value if len(body) == 1 and isinstance(body[-1], ast.Expr) else None
    added = node.args if isinstance(node, ast.Call) else []
    function = node.func if isinstance(node, ast.Call) else None
    appends = isinstance(function, ast.Attribute) and function.attr == "append"
    return ast.unparse(function.value) if appends and [ast.unparse(one) for one in added] == [parameter] else ""  # type: ignore[union-attr]
