"""Optimizer classes of one's own: WD517."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torchdecay.integrations.lint.code import FUNCTIONS, Code, is_method
from torchdecay.integrations.lint.rule import Hit, rule

_BASES = ("torch.optim.Optimizer", "torch.optim.optimizer.Optimizer")
_UPDATES = {"add_", "sub_", "addcdiv_", "addcmul_", "copy_", "lerp_"}
_DECAY = re.compile(r"weight_?decay|\bwd\b")
_HANDED = re.compile(r"\*\*\s*\w*group|[(,=]\s*\w*group\s*[,)]|\*\*self\.|defaults\b.*\bfor\b")
"""Whoever gets a whole group may read what it likes."""


@rule(
    "WD517",
    "warning",
    "an optimizer of your own that does not decay",
    why="It takes weight_decay, and its step does not do what everybody takes that for.",
    fix="Let the step read it, in front of every way out of it; td.verify(optimizer) measures what it does.",
    example="""
        import torch


        class SignSGD(torch.optim.Optimizer):
            def __init__(self, params, lr=1e-3, weight_decay=0.0):
                super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

            @torch.no_grad()
            def step(self, closure=None):
                for group in self.param_groups:
                    for p in group["params"]:
                        if p.grad is not None:
                            p.add_(p.grad.sign(), alpha=-group["lr"])
    """,
    mends={"p.add_": 'p.mul_(1 - group["lr"] * group["weight_decay"])\n                    p.add_'},
)
def undecayed(code: Code) -> Iterator[Hit]:
    """A weight_decay that no step reads, that some steps pass by, with the wrong sign, or written into gradients."""
    for home in code.all(ast.ClassDef):
        methods = {one.name: one for one in home.body if isinstance(one, FUNCTIONS)}
        is_optimizer = any(code.dotted(one) in _BASES for one in home.bases)
        if "__init__" not in methods or "step" not in methods or not is_optimizer:
            continue
        taken = [one for one in ast.walk(methods["__init__"].args) if isinstance(one, ast.arg)]
        own = next((one for one in taken if _DECAY.fullmatch(one.arg)), None)
        others = [one for name, one in methods.items() if name not in ("__init__", "__setstate__")]
        if own is not None and not any(_DECAY.search(text) or _HANDED.search(text) for text in map(_code_of, others)):
            yield Hit(own, f'{home.name} takes "{own.arg}", and its step does not read it')
        for method in others:
            yield from _passed_by(method)
            yield from _wrong(code, method)


def _code_of(method: ast.AST) -> str:
    """Its text without docstrings, which are for people."""
    parts = method.body if isinstance(method, FUNCTIONS) else []
    is_docstring = parts and isinstance(parts[0], ast.Expr) and isinstance(parts[0].value, ast.Constant)
    return "\n".join(map(ast.unparse, parts[1:] if is_docstring else parts))


def _passed_by(method: ast.AST) -> Iterator[Hit]:
    """A branch that updates weights and leaves, in front of everything that decays."""
    for loop in ast.walk(method):
        body = loop.body if isinstance(loop, ast.For) else []
        for index, one in enumerate(body):
            if not isinstance(one, ast.If) or not isinstance(one.body[-1], ast.Continue):
                continue
            before, after = ("\n".join(map(ast.unparse, some)) for some in (body[:index], body[index + 1 :]))
            leaves = any(is_method(call, *_UPDATES) for call in ast.walk(one))
            decays = _DECAY.search(before + ast.unparse(one)) or not _DECAY.search(after)
            if leaves and not decays and "weight_decay" not in before:
                yield Hit(one.test, f'where "{ast.unparse(one.test)}" the weights are updated, and do not decay')


def _wrong(code: Code, method: ast.AST) -> Iterator[Hit]:
    """Decay that is taken off a gradient, so that weights grow; a note of what is added to `.grad` itself."""
    for node in ast.walk(method):
        left, right = None, ""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
            left, right = node.left, ast.unparse(node.right)
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Sub):
            left, right = node.target, ast.unparse(node.value)
        if left is not None and _is_gradient(code, left) and _DECAY.search(right) and "*" in right:
            yield Hit(node, f"{right} is taken off the gradient: the weights grow")
        if is_method(node, "add_"):
            said = " ".join(map(ast.unparse, [*node.args, *(one.value for one in node.keywords)]))
            if _is_gradient(code, node.func.value) and _DECAY.search(said) and "-" not in said:
                yield Hit(node, "added to .grad itself: where gradients are kept, it decays again", "info")


def _is_gradient(code: Code, node: ast.expr) -> bool:
    """Whether this is a parameter's own gradient."""
    behind = code.value(node)
    if isinstance(behind, ast.Attribute) and behind.attr == "data":
        behind = behind.value
    return isinstance(behind, ast.Attribute) and behind.attr == "grad"
