"""Groups beside each other: WD512, WD513."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torchdecay.integrations.lint.code import Code, is_method
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
    example="""
        from torch.optim import AdamW

        optimizer = AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-3)
        optimizer.add_param_group({"params": head.bias})
    """,
    mends={"head.bias}": 'head.bias, "weight_decay": 0.0}'},
)
def later(code: Code) -> Iterator[Hit]:
    """add_param_group without weight_decay where all groups of the constructor say one, and none the constructor's."""
    for made in optimizers_made(code):
        own, names = made.number(code), list(assigned_to(code, made.call))
        decays = [number(code, one.items.get("weight_decay")) for one in groups_in(code, made.params)]
        if own is None or not decays or None in decays or own in decays:
            continue
        for call in code.all(ast.Call):
            if not is_method(call, "add_param_group") or not call.args:
                continue
            group = items(code, code.value(call.args[0]))
            same = ast.unparse(call.func.value) in names and code.function_of(call) is code.function_of(made.call)
            if same and "params" in group and "weight_decay" not in group:
                yield Hit(call, f"this group gets weight_decay={own:g}, and those before it {_numbers(decays)}")


def _numbers(decays: list[float | None]) -> str:
    return " and ".join(dict.fromkeys(f"{one:g}" for one in decays if one is not None))


@rule(
    "WD513",
    "warning",
    "parameters are sorted and joined again",
    why="Both lists get the same weight_decay: what was to be spared decays.",
    fix="Give the second group weight_decay=0.0.",
    example="""
        from torch.optim import AdamW

        decay, spared = [], []
        for name, p in model.named_parameters():
            if p.ndim < 2:
                spared.append(p)
            else:
                decay.append(p)
        optimizer = AdamW([{"params": decay}, {"params": spared}], lr=1e-3, weight_decay=0.1)
    """,
    mends={'{"params": spared}': '{"params": spared, "weight_decay": 0.0}'},
)
def joined(code: Code) -> Iterator[Hit]:
    """The two lists of one split in groups of equal options, or added to one list that an optimizer gets."""
    splits = list(_splits(code))
    for made in optimizers_made(code):
        decay, both = made.decay(code), made.params
        if isinstance(both, ast.List) and len(both.elts) == 2 and all(isinstance(e, ast.Starred) for e in both.elts):
            both = ast.BinOp(both.elts[0].value, ast.Add(), both.elts[1].value)  # type: ignore[attr-defined]
        both = code.value(both) if both is not None else None
        if isinstance(both, ast.Call) and code.dotted(both.func) == "itertools.chain" and len(both.args) == 2:
            both = ast.BinOp(both.args[0], ast.Add(), both.args[1])
        names = {ast.unparse(both.left), ast.unparse(both.right)} if isinstance(both, ast.BinOp) else set[str]()
        names = names or _extended(code, made.params)
        both = made.params if names and not isinstance(both, ast.BinOp) else both
        if both is not None and decay != 0 and _is_split(code, made.call, names, splits):
            yield Hit(made.call.func, f"{made.card.name} gets {ast.unparse(both)}, which were sorted before")
    told = set[ast.AST | None]()
    for one in groups(code):
        up = code.parents.get(one.node)
        beside = [other for other in groups(code) if code.parents.get(other.node) is up and other is not one]
        for other in beside if isinstance(up, ast.List) else ():
            names = {ast.unparse(one.items["params"]), ast.unparse(other.items["params"])}
            if (
                _is_split(code, one.node, names, splits)
                and _options(one) == _options(other)
                and up not in told
                and not _is_spared(code, one)
            ):
                told.add(up)
                yield Hit(other.node, f"the groups of {' and '.join(sorted(names))} have the same options")


def _extended(code: Code, params: ast.expr | None) -> set[str]:
    """The list that an optimizer gets, and the one that it was extended by."""
    if not isinstance(params, ast.Name):
        return set()
    found = code.binding(params)
    alias = found.value if found is not None and isinstance(found.value, ast.Name) else params
    for change in code.changed.get(params.id, ()):
        added = change.value if isinstance(change, ast.AugAssign) else None
        if is_method(change, "extend") and len(change.args) == 1:
            added = change.args[0]
        if isinstance(added, ast.Name):
            return {alias.id, added.id}
    return set()


def _options(group: Group) -> dict[str, str]:
    """What a group says beside its parameters and its name."""
    return {key: ast.unparse(value) for key, value in group.items.items() if key not in ("params", "name")}


def _is_spared(code: Code, group: Group) -> bool:
    """Whether neither group decays, so that it is all the same."""
    if "weight_decay" in group.items:
        return number(code, group.items["weight_decay"]) == 0
    made = [one for one in optimizers_made(code) if group in groups_in(code, one.params)]
    return bool(made) and all(one.decay(code) == 0 for one in made)


_ABOUT_DECAY = re.compile(
    r"""\.(ndim|dim\(\)|ndimension\(\))|len\(\w+\.shape\)|["'][\w.]*(bias|norm)[\w.]*["']""", re.I
)
"""Conditions that tell biases and norms from the rest."""


def _is_split(code: Code, node: ast.AST, names: set[str], splits: list[tuple[ast.AST, set[str]]]) -> bool:
    """Whether these are the two lists of one split, made in this function, or kept on an object."""
    here, kept = code.function_of(node), any("." in one for one in names)
    return any(names == pair and (kept or home is here) for home, pair in splits)


def _splits(code: Code) -> Iterator[tuple[ast.AST, set[str]]]:
    """Pairs of lists into which a function sorts parameters by what is about decay, by branches or comprehensions."""
    filtered = dict[tuple[ast.AST, str], list[str]]()
    for loop in parameter_loops(code):
        home = code.function_of(loop.node)
        if isinstance(loop.node, ast.comprehension):
            made = code.parents[loop.node]
            kept = code.parents[made]
            about = _ABOUT_DECAY.search(" ".join(map(ast.unparse, loop.node.ifs)))
            if about and isinstance(made, ast.ListComp) and isinstance(kept, ast.Assign) and len(kept.targets) == 1:
                filtered.setdefault((home, ast.unparse(loop.model)), []).append(ast.unparse(kept.targets[0]))
            continue
        for branch in ast.walk(loop.node):
            names, test = _two_lists(branch, loop.parameter)
            words = " ".join(names).lower()
            about_decay = "decay" in words or "wd" in words or "bias" in words
            if len(names) == 2 and "" not in names and (about_decay or _ABOUT_DECAY.search(test)):
                yield home, names
    yield from ((home, set(names)) for (home, _), names in filtered.items() if len(names) == 2)


def _two_lists(branch: ast.AST, parameter: str) -> tuple[set[str], str]:
    """The lists to which the two sides of a branch append the parameter, or those of a choice, and the test."""
    if isinstance(branch, ast.If) and len(branch.orelse) == 1:
        return {_appended(one, parameter) for one in (branch.body, branch.orelse)}, ast.unparse(branch.test)
    choice = branch.func.value if is_method(branch) else None
    if isinstance(choice, ast.IfExp) and ast.unparse(branch).endswith(f".append({parameter})"):
        return {ast.unparse(choice.body), ast.unparse(choice.orelse)}, ast.unparse(choice.test)
    return set(), ""


def _appended(body: list[ast.stmt], parameter: str) -> str:
    """The list to which a branch appends the parameter, and does nothing else."""
    node = body[0].value if len(body) == 1 and isinstance(body[0], ast.Expr) else None
    if is_method(node, "append") and [ast.unparse(one) for one in node.args] == [parameter]:
        return ast.unparse(node.func.value)
    return ""
