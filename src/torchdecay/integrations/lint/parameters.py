"""What an optimizer gets: whole models, lists of parameters, groups; and what decided who is in them."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torchdecay.integrations.lint.code import COMPREHENSIONS, FUNCTIONS, Code, is_method
from torchdecay.integrations.lint.constants import items
from torchdecay.integrations.lint.optimizers import Made, optimizers_made

_SAME = {"list", "tuple", "iter", "set", "sorted", "reversed", "itertools.chain"}
_PASSING = ("enumerate", "filter", "tqdm.tqdm")
_GIVEN = {"value", "item", "loop"}
OPTIONS = {"weight_decay", "weight_decay_rate", "lr", "momentum", "betas", "eps"}


# ── Whole models ──


def whole(code: Code, node: ast.expr | None, *, depth: int = 8) -> ast.expr | None:
    """The module whose parameters these are, all or all that are trained: `model` for `list(model.parameters())`."""
    if node is None or not depth:
        return None
    less = depth - 1
    if isinstance(node, ast.Call):
        owner = walked(node)
        if owner is not None and owner[1] == "parameters":
            return owner[0]
        name = code.dotted(node.func)
        if name in _SAME and node.args:
            found = [whole(code, one, depth=less) for one in node.args]
            return found[0] if all(found) else None
        if name == "filter" and len(node.args) == 2:
            test, among = node.args
            if isinstance(test, ast.Lambda) and _requires_grad(test.body):
                return whole(code, among, depth=less)
        if is_method(node, "values"):
            inner = code.value(node.func.value)
            is_dict = isinstance(inner, ast.Call) and inner.args and code.dotted(inner.func) == "dict"
            owner = walked(inner.args[0]) if is_dict else None  # type: ignore[attr-defined]
            return owner[0] if owner else None
        returned = code.returned(code.definition(node.func))
        return whole(code, returned[0], depth=less) if len(returned) == 1 else None
    if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
        loop = parameter_loop(code, node.generators[0])
        plain = loop and len(node.generators) == 1 and isinstance(node.elt, ast.Name) and node.elt.id == loop.parameter
        trained = all(_requires_grad(one) for one in node.generators[0].ifs)
        return loop.model if loop is not None and plain and trained else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        both = whole(code, node.left, depth=less), whole(code, node.right, depth=less)
        return both[0] if all(both) else None
    if isinstance(node, ast.List | ast.Tuple) and node.elts and all(isinstance(e, ast.Starred) for e in node.elts):
        found = [whole(code, one.value, depth=less) for one in node.elts if isinstance(one, ast.Starred)]
        return found[0] if all(found) else None
    if isinstance(node, ast.Name | ast.Attribute):
        behind = code.value(node)
        if behind is not node and not code.changed.get(ast.unparse(node)):
            return whole(code, behind, depth=less)
    return None


def walked(node: ast.AST) -> tuple[ast.expr, str] | None:
    """For `model.parameters()` and `model.named_parameters()`: the model, and which of the two."""
    if not is_method(node, "parameters", "named_parameters") or node.args:
        return None
    recursive = all(
        one.arg in ("prefix", "remove_duplicate") or (isinstance(one.value, ast.Constant) and one.value.value)
        for one in node.keywords
    )
    return (node.func.value, node.func.attr) if recursive else None


def models_of(code: Code, made: Made) -> set[str]:
    """The texts of the models whose parameters an optimizer gets, or some of them."""
    starts = [] if made.params is None else [made.params]
    return {ast.unparse(found[0]) for node in flow(code, starts) if (found := walked(node))}


def _requires_grad(node: ast.expr) -> bool:
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Is | ast.Eq):
        is_true = isinstance(node.comparators[0], ast.Constant) and node.comparators[0].value is True
        return is_true and _requires_grad(node.left)
    return isinstance(node, ast.Attribute) and node.attr == "requires_grad"


# ── Loops over parameters ──


@dataclass(frozen=True, eq=False)
class Loop:
    """A loop over the parameters of a model: its names for the name and for the parameter ("" for none)."""

    node: ast.For | ast.AsyncFor | ast.comprehension
    model: ast.expr
    name: str
    parameter: str


def parameter_loop(code: Code, node: ast.AST) -> Loop | None:
    """The loop over `named_parameters()` or `parameters()` that a `for` is."""
    if not isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
        return None
    over, target = code.value(node.iter), node.target
    while isinstance(over, ast.Call) and over.args and (name := code.dotted(over.func)) in (*_SAME, *_PASSING):
        if name == "filter" and len(over.args) == 2:
            over = code.value(over.args[1])
            continue
        if name == "enumerate":
            if not isinstance(target, ast.Tuple) or len(target.elts) != 2:
                return None
            target = target.elts[1]
        over = code.value(over.args[0])
    found = walked(over) or _walked_as_dict(code, over)
    if found is None:
        return None
    model, which = found
    if which == "parameters":
        return Loop(node, model, "", target.id) if isinstance(target, ast.Name) else None
    if isinstance(target, ast.Tuple) and len(target.elts) == 2 and all(isinstance(e, ast.Name) for e in target.elts):
        name, parameter = (one.id for one in target.elts if isinstance(one, ast.Name))
        return Loop(node, model, name, parameter)
    return None


def _walked_as_dict(code: Code, node: ast.expr, *, depth: int = 4) -> tuple[ast.expr, str] | None:
    """The same for `named.items()`, where `named` is a dictionary of names and parameters."""
    if not depth or not is_method(node, "items") or code.changed.get(ast.unparse(node.func.value)):
        return None
    named = code.value(node.func.value)
    if isinstance(named, ast.Call) and code.dotted(named.func) == "dict" and len(named.args) == 1:
        return walked(named.args[0])
    if not isinstance(named, ast.DictComp) or len(named.generators) != 1:
        return None
    part = named.generators[0]
    plain = ast.unparse(part.target).strip("()") == f"{ast.unparse(named.key)}, {ast.unparse(named.value)}"
    if not plain or not all(_requires_grad(one) for one in part.ifs):
        return None
    return walked(part.iter) or _walked_as_dict(code, part.iter, depth=depth - 1)


def parameter_loops(code: Code) -> Iterator[Loop]:
    """Every loop over parameters."""
    for kind in (ast.For, ast.AsyncFor, ast.comprehension):
        yield from filter(None, (parameter_loop(code, node) for node in code.all(kind)))


# ── Groups ──


@dataclass(frozen=True, eq=False)
class Group:
    """A parameter group as it is written: a dictionary with "params"."""

    node: ast.Dict | ast.Call
    items: dict[str, ast.expr]
    is_open: bool


@functools.lru_cache(maxsize=8)
def groups(code: Code) -> tuple[Group, ...]:
    """Every dictionary that is a parameter group: it reaches an optimizer, or says an option beside its params."""
    reached = reaching(code)
    return tuple(one for one in _written(code) if one.node in reached or OPTIONS & one.items.keys())


def _written(code: Code) -> Iterator[Group]:
    for node in [*code.all(ast.Dict), *code.all(ast.Call)]:
        found = items(code, node)
        if "params" in found and isinstance(node, ast.Dict | ast.Call):
            many = node.keys if isinstance(node, ast.Dict) else node.keywords
            yield Group(node, found, len(found) < len(many))


def groups_in(code: Code, node: ast.expr | None) -> list[Group]:
    """The groups of a list that is written out; none where it is something else or is added to."""
    if isinstance(node, ast.Name | ast.Attribute) and code.changed.get(ast.unparse(node)):
        return []
    behind = code.value(node) if node is not None else None
    if isinstance(behind, ast.Call):
        returned = code.returned(code.definition(behind.func))
        return groups_in(code, returned[0]) if len(returned) == 1 else []
    written = behind.elts if isinstance(behind, ast.List | ast.Tuple) else []
    by_node: dict[ast.AST, Group] = {one.node: one for one in groups(code)}
    found = [by_node.get(code.value(one)) for one in written]
    return [] if None in found else [one for one in found if one is not None]


def owner_of_group(code: Code, group: ast.expr) -> str:
    """The text of the optimizer whose group this is: an item of its param_groups, or a loop's name for one."""
    if isinstance(group, ast.Name):
        found = code.binding(group)
        groups = found.value if found is not None and found.kind == "loop" else None
        if isinstance(groups, ast.Call) and code.dotted(groups.func) == "enumerate" and groups.args:
            groups = groups.args[0]
    else:
        groups = group.value if isinstance(group, ast.Subscript) else None
    is_groups = isinstance(groups, ast.Attribute) and groups.attr == "param_groups"
    return ast.unparse(groups.value) if is_groups and isinstance(groups, ast.Attribute) else ""


@functools.lru_cache(maxsize=8)
def reaching(code: Code) -> frozenset[ast.AST]:
    """All expressions from which the groups of some optimizer come, and the conditions that chose what is in them."""
    starts: list[ast.AST] = [made.params for made in optimizers_made(code) if made.params is not None]
    starts += [one.node for one in _written(code) if OPTIONS & one.items.keys()]
    starts += [one for call in code.all(ast.Call) if is_method(call, "add_param_group") for one in call.args]
    return flow(code, starts)


def flow(code: Code, starts: Iterable[ast.AST], *, every: bool = False) -> frozenset[ast.AST]:
    """The expressions from which these come: through names, changes of lists, functions of this file, and conditions.

    With `every`, a name is followed to every meaning that it gets in its function, not to the one that it has there.
    """
    left, found = list(starts), set[ast.AST]()
    while left:
        for node in ast.walk(left.pop()):
            if node not in found:
                found.add(node)
                left += _behind(code, node, every)
    return frozenset(found)


def _behind(code: Code, node: ast.AST, every: bool) -> Iterator[ast.AST]:
    """What else decides the value of a name or a call of this file."""
    if isinstance(node, ast.Name):
        one = code.binding(node)
        known = code.bindings[code.scope_of(node)].get(node.id, []) if every else [one] if one is not None else []
        yield from (each.value for each in known if each.kind in _GIVEN and each.value is not None)
    if isinstance(node, ast.Name | ast.Attribute):
        here = code.function_of(node)
        for change in code.changed.get(ast.unparse(node), ()):
            if code.function_of(change) is here or isinstance(node, ast.Attribute):
                yield change
                yield from conditions(code, change)
    if isinstance(node, ast.Call):
        yield from code.returned(code.definition(node.func))


def conditions(code: Code, node: ast.AST) -> Iterator[ast.expr]:
    """The tests under which a node runs, up to its function."""
    for up in code.ancestors(node):
        if isinstance(up, FUNCTIONS):
            return
        if isinstance(up, ast.If | ast.IfExp | ast.While):
            yield up.test
        if isinstance(up, COMPREHENSIONS):
            yield from (test for one in up.generators for test in one.ifs)
