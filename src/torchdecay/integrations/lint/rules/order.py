"""What is done in the wrong order: WD507, WD515."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torchdecay.integrations.lint.code import Code, names_in
from torchdecay.integrations.lint.layers import has_parameters
from torchdecay.integrations.lint.optimizers import assigned_to, optimizers_made
from torchdecay.integrations.lint.parameters import groups_in, models_of, owner_of_group
from torchdecay.integrations.lint.rule import Hit, rule

_LOADING = ("from_pretrained", "load_from_checkpoint")
_NEW_PARAMETERS = ("fully_shard", "get_peft_model", "FullyShardedDataParallel")


@rule(
    "WD507",
    "error",
    "the optimizer is built before the model is complete",
    why="It holds the parameters that the model had: those that came later it neither trains nor decays.",
    fix="Build the optimizer behind it.",
    example="""
        import torch
        from peft import LoraConfig, get_peft_model

        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model = get_peft_model(model, LoraConfig())
        for batch in batches:
            model(batch).loss.backward()
            optimizer.step()
    """,
    mends={
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n": "",
        "LoraConfig())\n": "LoraConfig())\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n",
    },
)
def too_early(code: Code) -> Iterator[Hit]:
    """Adapters, sharding or a new model between the optimizer and its first step."""
    for made in optimizers_made(code):
        names, start = list(assigned_to(code, made.call)), code.statement(made.call)
        if len(names) != 1 or start is None:
            continue
        models = models_of(code, made)
        added = [one for one in code.all(ast.Call) if ast.unparse(one.func) == f"{names[0]}.add_param_group"]
        for after in _later(code, start):
            said = _renews(code, after, models)
            if (
                said
                and _is_used_between(code, names[0], after, None)
                and not (said.endswith("anew") and _is_used_between(code, names[0], start, after))
                and not any(one.lineno > after.lineno for one in added)
            ):
                yield Hit(made.call.func, f"{made.card.name} is built in front of line {after.lineno}, where {said}")
                break


def _later(code: Code, start: ast.stmt) -> Iterator[ast.stmt]:
    """Statements of the same function that run after this one, whichever branch they stand in."""
    home = code.function_of(start)
    for kind in (ast.Expr, ast.Assign):
        for node in code.all(kind):
            if node.lineno > start.lineno and code.function_of(node) is home and code.always_after(start, node):
                yield node


def _renews(code: Code, statement: ast.stmt, models: set[str]) -> str:
    """In which words a statement gives a model other parameters; "" where it does not."""
    value = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
    targets = [ast.unparse(one) for one in statement.targets] if isinstance(statement, ast.Assign) else []
    if not isinstance(value, ast.Call):
        return ""
    first = ast.unparse(value.args[0]) if value.args else ""
    name = code.dotted(value.func).rpartition(".")[2]
    if name in _NEW_PARAMETERS and first in models:
        return f"{name} changes the parameters of {first}"
    made_here = isinstance(code.definition(value.func), ast.ClassDef) or has_parameters(code, value)
    if len(targets) == 1 and targets[0].rpartition(".")[0] in models:
        # In `model.fc.in_features` it is an attribute of `model.fc` that is used.
        parts = [one for one in ast.walk(value) if not isinstance(code.parents.get(one), ast.Attribute)]
        wraps = targets[0] in map(ast.unparse, parts)
        return f"{targets[0]} is made anew" if made_here and not wraps else ""
    if len(targets) == 1 and targets[0] in models:
        loaded = isinstance(value.func, ast.Attribute) and value.func.attr in _LOADING
        copied = code.dotted(value.func) == "copy.deepcopy"
        is_new = (made_here or loaded) and targets[0] not in names_in(*value.args)
        if is_new or copied or code.dotted(value.func) == "torch.load":
            return f"{targets[0]} is made anew"
    return ""


def _is_used_between(code: Code, name: str, start: ast.stmt, end: ast.stmt | None) -> bool:
    """Whether the next that is done with a name behind a statement, up to another, is to read it."""
    home = code.function_of(start)
    uses = [
        node
        for kind in (ast.Name, ast.Attribute)
        for node in code.all(kind)
        if code.function_of(node) is home
        and node.lineno > (start.end_lineno or 0)
        and (end is None or node.lineno < end.lineno)
        and ast.unparse(node) == name
    ]
    first = min(uses, key=lambda node: (node.lineno, node.col_offset), default=None)
    # What stands on both sides of an assignment is read first.
    return isinstance(first, ast.Name | ast.Attribute) and isinstance(first.ctx, ast.Load)


@rule(
    "WD515",
    "warning",
    "a new weight_decay is overwritten by a checkpoint",
    why="load_state_dict puts the saved options of the groups, weight_decay among them, in the place of yours.",
    fix="Set it behind load_state_dict, or load with td.load_optimizer, which says whose value wins.",
    example="""
        def resume(optimizer, path, weight_decay):
            for group in optimizer.param_groups:
                group["weight_decay"] = weight_decay
            optimizer.load_state_dict(torch.load(path)["optimizer"])
    """,
    mends={
        '    optimizer.load_state_dict(torch.load(path)["optimizer"])': "",
        "    for": '    optimizer.load_state_dict(torch.load(path)["optimizer"])\n    for',
    },
)
def overwritten(code: Code) -> Iterator[Hit]:
    """A weight_decay that is set in the groups, and then load_state_dict of the same optimizer, in one function."""
    yield from _built_then_loaded(code)
    for node in code.all(ast.Subscript):
        optimizer, statement = owner_of_group(code, node.value), code.statement(node)
        loop = code.first(node, ast.For)
        # A loop over the groups comes to its end before what follows it; one over epochs may hold the load.
        holds = loop is not None and any(isinstance(one, ast.stmt) and _loads(one, optimizer) for one in ast.walk(loop))
        start = statement if loop is None or holds else loop
        if start is None or not optimizer or node not in _sets(code, optimizer):
            continue
        loads = [after for after in _later(code, start) if _loads(after, optimizer)]
        here = code.function_of(node)
        sets = [one for one in _sets(code, optimizer) if code.function_of(one) is here]
        again = [one for one in sets if loads and one.lineno > loads[0].lineno]
        if loads and not again:
            yield Hit(node, f"{optimizer}.load_state_dict in line {loads[0].lineno} puts the saved one in its place")


def _built_then_loaded(code: Code) -> Iterator[Hit]:
    """A note of an optimizer that is built with a weight_decay which somebody chooses, and then loaded."""
    for made in optimizers_made(code):
        options = [made.options, *(one.items for one in groups_in(code, made.params))]
        said = [one.get("weight_decay") for one in options]
        chosen = [one for one in said if one is not None and isinstance(code.value(one), ast.Attribute | ast.Name)]
        names, start = list(assigned_to(code, made.call)), code.statement(made.call)
        loads = [one for one in _later(code, start) if _loads(one, names[0])] if start is not None and names else []
        if chosen and loads and not any(one.lineno > loads[0].lineno for one in _sets(code, names[0])):
            text = f"{ast.unparse(chosen[0])} is what it is built with, and {names[0]}.load_state_dict in line"
            yield Hit(made.call.func, f"{text} {loads[0].lineno} puts the saved one in its place", "info")


def _sets(code: Code, optimizer: str) -> Iterator[ast.Subscript]:
    for node in code.all(ast.Subscript):
        is_key = isinstance(node.slice, ast.Constant) and node.slice.value == "weight_decay"
        if is_key and isinstance(node.ctx, ast.Store) and owner_of_group(code, node.value) == optimizer:
            yield node


def _loads(statement: ast.stmt, optimizer: str) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Call) and ast.unparse(value.func) == f"{optimizer}.load_state_dict"
