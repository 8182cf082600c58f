"""Decay that is written by hand, into the loss or into gradients: WD508, WD514."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torchdecay.integrations.lint.code import FUNCTIONS, Code, is_method
from torchdecay.integrations.lint.constants import keyword
from torchdecay.integrations.lint.optimizers import Made, optimizers_made
from torchdecay.integrations.lint.parameters import Loop, flow, models_of, parameter_loop, parameter_loops
from torchdecay.integrations.lint.rule import Hit, rule

_NORM = r"(torch(\.linalg)?\.(vector_)?norm\(_P_(, (p=|ord=)?2(\.0)?)?\)|_P_\.norm\((p=)?(2(\.0)?)?\))"
_SQUARE = r"(_P_ \*\* 2|_P_\.pow\(2(\.0)?\)|torch\.pow\(_P_, 2\)|_P_\.square\(\)|_P_ \* _P_|torch\.square\(_P_\))"
_SHAPES = (
    (_NORM, False),
    (rf"\(?{_SQUARE}\)?\.sum\(\)|torch\.sum\({_SQUARE}\)", True),
    (rf"{_NORM} \*\* 2|{_NORM}\.pow\(2\)|{_NORM}\.square\(\)|torch\.square\({_NORM}\)", True),
)
"""How terms are written in which _P_ is a parameter, and whether they are sums of squares or norms."""


@rule(
    "WD508",
    "warning",
    "a penalty that is not what it looks like",
    why="An unsquared norm pulls small weights as hard as large ones; beside weight_decay weights are pulled twice.",
    fix="Keep one decay: weight_decay of the optimizer, or td.penalty(model, l2=...), once per step.",
    example="""
        penalty = sum(p.norm(2) for p in model.parameters())
        loss = criterion(model(x), y) + 1e-4 * penalty
        loss.backward()
    """,
    mends={"p.norm(2)": "p.pow(2).sum()"},
)
def penalties(code: Code) -> Iterator[Hit]:
    """Sums of norms or squares over parameters that reach a backward pass."""
    calls = [one for one in code.all(ast.Call) if is_method(one, "backward", "manual_backward")]
    backward = [one.func.value for one in calls if one.func.attr == "backward"]
    backward += [one.args[0] for one in calls if one.args]
    for function in code.all(ast.FunctionDef):
        # Libraries call backward on what these return.
        backward += code.returned(function) if function.name in ("training_step", "compute_loss") else []
    if not backward:
        return
    reached = flow(code, backward, every=True)
    for loop in parameter_loops(code):
        for term in _terms(code, loop):
            if term not in reached:
                continue
            squared, where = _is_squared(code, term, loop.parameter), ast.unparse(loop.model)
            if squared is False and not _is_lasso(code, loop.node):
                yield Hit(term, f"the norm of each parameter of {where} is added to the loss, and not squared")
            elif squared and (made := _decays_too(code, loop)) is not None:
                said = f"squares of {where} are added to the loss, and {made.card.name} has {made.spoken_decay(code)}"
                yield Hit(term, said)
            elif squared and (divided := _divided_before(code, loop, term)):
                yield Hit(term, f"the penalty is added to {divided} behind its division: once in every micro-batch")


def _terms(code: Code, loop: Loop) -> Iterator[ast.expr]:
    """What a loop adds up: of a comprehension its element, of a `for` what is added to a name."""
    if isinstance(loop.node, ast.comprehension):
        made = code.parents[loop.node]
        if isinstance(made, ast.ListComp | ast.GeneratorExp) and len(made.generators) == 1:
            yield made.elt
        return
    for node in ast.walk(loop.node):
        if isinstance(node, ast.Assign | ast.AugAssign) and (added := _added(node)) is not None:
            yield added


def _added(node: ast.Assign | ast.AugAssign) -> ast.expr | None:
    """What a statement adds to a name: `x` for `name += x` and `name = name + x`."""
    value = node.value
    if isinstance(node, ast.AugAssign):
        return value if isinstance(node.op, ast.Add) else None
    if not isinstance(value, ast.BinOp) or not isinstance(value.op, ast.Add):
        return None
    return value.right if ast.unparse(node.targets[0]) == ast.unparse(value.left) else None


def _is_squared(code: Code, term: ast.expr, parameter: str) -> bool | None:
    """Whether a term is a sum of squares of a parameter (True), its 2-norm (False), or something else (None)."""
    if isinstance(term, ast.BinOp) and isinstance(term.op, ast.Mult):
        sides = [_is_squared(code, one, parameter) for one in (term.left, term.right)]
        return next((one for one in sides if one is not None), None)
    text = re.sub(r"\.data\b", "", ast.unparse(term))
    for shape, squared in _SHAPES:
        if re.fullmatch(shape.replace("_P_", re.escape(parameter)), text):
            return squared
    return None


def _is_lasso(code: Code, node: ast.AST) -> bool:
    """Whether somebody says that norms are meant: group lasso."""
    around = code.function_of(node)
    text = ast.unparse(code.statement(node) or node) + (around.name if isinstance(around, FUNCTIONS) else "")
    return bool(re.search("lasso|group|spars", text, re.IGNORECASE))


def _decays_too(code: Code, loop: Loop) -> Made | None:
    """The optimizer of this file that decays the same model."""
    decaying = (made for made in optimizers_made(code) if (made.number(code) or 0.0) > 0)
    return next((made for made in decaying if ast.unparse(loop.model) in models_of(code, made)), None)


def _divided_before(code: Code, loop: Loop, term: ast.expr) -> str:
    """The loss that was divided by the number of micro-batches before this penalty is added to it."""
    around = code.function_of(loop.node)
    counts = {
        ast.unparse(one.right)
        for one in code.all(ast.BinOp)
        if isinstance(one.op, ast.Mod) and code.function_of(one) is around
    }
    statements: list[ast.Assign | ast.AugAssign] = [*code.all(ast.Assign), *code.all(ast.AugAssign)]
    for node in statements:
        if code.function_of(node) is not around:
            continue
        added, target = _added(node), ast.unparse(node.target if isinstance(node, ast.AugAssign) else node.targets[0])
        is_term = added is not None and term in flow(code, [added], every=True)
        if is_term and any(_divides(one, target, counts) and code.always_after(one, node) for one in statements):
            return target
    for both in code.all(ast.BinOp):
        if isinstance(both.op, ast.Add) and code.function_of(both) is around:
            for loss, added in ((both.left, both.right), (both.right, both.left)):
                is_term = not _is_divided(added, counts) and term in flow(code, [added], every=True)
                if is_term and _is_divided(code.value(loss), counts):
                    return ast.unparse(loss)
    return ""


def _divides(node: ast.Assign | ast.AugAssign, name: str, counts: set[str]) -> bool:
    """Whether a statement leaves a name divided by a count of steps."""
    if isinstance(node, ast.AugAssign):
        is_division = isinstance(node.op, ast.Div) and ast.unparse(node.target) == name
        return is_division and _is_count(node.value, counts)
    return _is_divided(node.value, counts) and ast.unparse(node.targets[0]) == name


def _is_divided(node: ast.expr, counts: set[str]) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and _is_count(node.right, counts)


def _is_count(node: ast.expr, counts: set[str]) -> bool:
    """Whether this is the number of micro-batches: it is called so, or every so many rounds something is done."""
    text = ast.unparse(node)
    return text in counts or bool(re.search("accum|micro", text, re.IGNORECASE))


@rule(
    "WD514",
    "warning",
    "decay is added to gradients that are not done",
    why="Added in each micro-batch, it decays once for each; added to scaled gradients, it is divided with them.",
    fix="Add it right in front of optimizer.step(), or attach td.coupled(wd), which leaves .grad alone.",
    example="""
        for i, (x, y) in enumerate(loader):
            (criterion(model(x), y) / 4).backward()
            for p in model.parameters():
                p.grad += 1e-4 * p.data
            if (i + 1) % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
    """,
    mends={
        "    for p in model.parameters():\n        p.grad += 1e-4 * p.data\n": "",
        "== 0:\n": "== 0:\n        for p in model.parameters():\n            p.grad += 1e-4 * p.data\n",
    },
)
def into_gradients(code: Code) -> Iterator[Hit]:
    """`p.grad += wd * p` outside the branch that steps, or in a hook in front of a step that takes a closure."""
    for loop in parameter_loops(code):
        for node in ast.walk(loop.node):
            if isinstance(loop.node, ast.comprehension) or not _adds_to_gradient(node, loop.parameter):
                continue
            around = next((one for one in code.ancestors(loop.node) if isinstance(one, ast.For | ast.While)), None)
            branch = _stepping_branch(around) if around is not None else None
            same = around is not None and code.function_of(around) is code.function_of(loop.node)
            if branch is not None and same and not code.inside(loop.node, branch):
                yield Hit(node, f"added in every micro-batch; the step is taken in line {branch.lineno}")
            elif scaled := _scaled_at(code, loop):
                yield Hit(node, f"added to gradients that line {scaled} divides")
            elif _is_step_hook(code, loop.node):
                yield Hit(node, "added by a hook that runs before the closure, which makes the gradients anew")


def _adds_to_gradient(node: ast.AST, parameter: str) -> bool:
    """Whether a parameter is added to its own gradient."""
    gradient, added = "", list[ast.expr]()
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
        gradient, added = ast.unparse(node.target), [node.value]
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.Add):
        same = ast.unparse(node.targets[0]) == ast.unparse(node.value.left)
        gradient, added = ast.unparse(node.targets[0]) if same else "", [node.value.right]
    if is_method(node, "add_"):
        gradient, added = ast.unparse(node.func.value), node.args
    of_parameter = re.compile(rf"\b{re.escape(parameter)}(\.data|\.detach\(\))?(?![\w.])") if parameter else None
    return (
        of_parameter is not None
        and gradient.removesuffix(".data") == f"{parameter}.grad"
        and any(of_parameter.search(ast.unparse(one)) for one in added)
    )


def _scaled_at(code: Code, loop: Loop) -> int:
    """The line in which the gradients that a loop adds to are divided, by a scaler or by hand; 0 for none."""
    statement = code.statement(loop.node)
    block = code.block(statement) if statement is not None else []
    after = block[block.index(statement) + 1 :] if statement in block else []
    for one in after:
        if any(is_method(part, "unscale_") for part in ast.walk(one)):
            return one.lineno
        again = parameter_loop(code, one) if isinstance(one, ast.For) else None
        if again is not None and re.search(rf"\b{again.parameter}\.grad(\.data)?(\.div_\(| /= )", ast.unparse(one)):
            return one.lineno
        step = next((part for part in ast.walk(one) if is_method(part, "step")), None)
        if step is not None:
            scaler, before = ast.unparse(step.func.value), "\n".join(map(ast.unparse, block[: block.index(one)]))
            return one.lineno if f"{scaler}.scale(" in before and f"{scaler}.unscale_(" not in before else 0
    return 0


def _stepping_branch(loop: ast.AST) -> ast.If | None:
    """The `if` of a loop that steps once in so many rounds."""
    branches = [one for one in ast.walk(loop) if isinstance(one, ast.If)]
    counting = (one for one in branches if any(isinstance(part, ast.Mod) for part in ast.walk(one.test)))
    steps = (one for one in counting if any(is_method(call, "step") for part in one.body for call in ast.walk(part)))
    return next(steps, None)


def _is_step_hook(code: Code, node: ast.AST) -> bool:
    """Whether a function is registered to run before steps, and some step of this file gets a closure."""
    home = code.function_of(node)
    hooks = (one for one in code.all(ast.Call) if is_method(one, "register_step_pre_hook") and one.args)
    given = [(*one.args, keyword(one, "closure"))[0] for one in code.all(ast.Call) if is_method(one, "step")]
    closes = any(one is not None and isinstance(code.definition(one), FUNCTIONS) for one in given)
    return closes and any(code.definition(one.args[0]) is home for one in hooks)
