"""How a class uses its own parameters, read from its source without running it.

The reading is shallow on purpose: it follows `self.name` through views, casts, indexing and local variables
inside one method, and notes what it is fed to. What it cannot read it says nothing about.

    matmul    an operand of @, matmul, einsum, F.linear and their like
    conv      the weight of a convolution
    bias      the bias argument of one of these
    lookup    the table of F.embedding
    norm      the weight or bias of F.layer_norm and its like
    scaled    a factor of a product
    normed    scaled, in a method that divides by a norm or a deviation
    added     a term of a sum
    joined    an item of cat or stack
    expanded  repeated along the batch
"""

from __future__ import annotations

import ast
import inspect
import textwrap

from torch import nn

from torchdecay.plans.names import per_class
from torchdecay.plans.roles.words import word_set

Uses = dict[str, frozenset[str]]

_MATMUL = word_set(
    "matmul mm bmm mv einsum tensordot baddbmm addmm addmv addbmm dot vdot outer ger chain_matmul multi_dot "
    "kron contract grouped_mm _grouped_mm"
)
_POSITIONS: dict[str, tuple[str, int, int]] = {
    "linear": ("matmul", 1, 2),
    "bilinear": ("matmul", 2, 3),
    "embedding": ("lookup", 1, -1),
    "embedding_bag": ("lookup", 1, -1),
    "layer_norm": ("norm", 2, 3),
    "rms_norm": ("norm", 2, -1),
    "group_norm": ("norm", 2, 3),
    "batch_norm": ("norm", 3, 4),
    "instance_norm": ("norm", 3, 4),
    "prelu": ("scaled", 1, -1),
    **{f"conv{transpose}{n}d": ("conv", 1, 2) for transpose in ("", "_transpose") for n in (1, 2, 3)},
}
_NORMALIZING = word_set("rsqrt std var var_mean std_mean norm vector_norm rms normalize")
_JOINING = word_set("cat concat concatenate stack hstack vstack")
_OPERANDS = {
    **dict.fromkeys(_MATMUL, ("matmul", "matmul")),
    **dict.fromkeys(word_set("addmm addmv baddbmm addbmm"), ("bias", "matmul")),
    **dict.fromkeys(word_set("mul mul_ multiply"), ("scaled", "scaled")),
    **dict.fromkeys(word_set("add add_"), ("added", "added")),
    **dict.fromkeys(word_set("addcmul addcmul_"), ("added", "scaled")),
    **dict.fromkeys(word_set("expand expand_as repeat broadcast_to tile repeat_interleave"), ("expanded", "")),
}
"""What is called → the use of its first operand, and that of the others."""
_VIEWS = word_set(
    "transpose permute reshape view view_as unsqueeze squeeze flatten movedim swapaxes t rearrange repeat expand "
    "expand_as broadcast_to tile to type_as cast float half bfloat16 double contiguous clone detach narrow select "
    "chunk split unbind index_select gather take_along_dim"
)


@per_class
def of(kind: type) -> Uses:
    """Attribute → the uses of it in the methods of a module class and its bases, torch's own left out."""
    found: dict[str, set[str]] = {}
    for base in kind.__mro__:
        if base is nn.Module or base.__module__.partition(".")[0] in ("torch", "builtins", "abc", "typing"):
            continue
        for name, method in vars(base).items():
            if name != "__init__" and inspect.isfunction(method):
                for attribute, uses in _read(inspect.unwrap(method)).items():
                    found.setdefault(attribute, set()).update(uses)
    return {attribute: frozenset(uses) for attribute, uses in found.items()}


def _read(method: object) -> dict[str, set[str]]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))  # type: ignore[arg-type]
    except (OSError, TypeError, SyntaxError, ValueError, RecursionError):
        return {}
    if not tree.body or not isinstance(tree.body[0], ast.FunctionDef):
        return {}
    function = tree.body[0]
    parameters = function.args.posonlyargs + function.args.args
    if not parameters:
        return {}
    variables = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    variables |= {
        node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    reader = _Reader(parameters[0].arg, frozenset(variables))
    reader.visit_body(function.body)
    if any(reader.normalizes(node) for node in ast.walk(function)):
        for uses in reader.found.values():
            if "scaled" in uses:
                uses.add("normed")
    return reader.found


class _Reader(ast.NodeVisitor):
    """Notes the uses of `self.<name>` in one method, statement by statement."""

    def __init__(self, self_name: str, variables: frozenset[str]) -> None:
        self.self_name = self_name
        self.variables = variables
        self.found: dict[str, set[str]] = {}
        self.local: dict[str, frozenset[str]] = {}

    def visit_body(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    def note(self, node: ast.expr | None, use: str) -> None:
        for attribute in self.behind(node) if node is not None and use else ():
            self.found.setdefault(attribute, set()).add(use)

    def behind(self, node: ast.expr) -> frozenset[str]:
        """The attributes of self that an expression is a function of, if it is one of nothing else."""
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == self.self_name:
                return frozenset((node.attr,))
            return self.behind(node.value)
        if isinstance(node, ast.Name):
            return self.local.get(node.id, frozenset())
        if isinstance(node, (ast.Subscript, ast.Starred)):
            return self.behind(node.value)
        if isinstance(node, ast.IfExp):
            return self.behind(node.body) | self.behind(node.orelse)
        if isinstance(node, ast.UnaryOp):
            return self.behind(node.operand)
        if isinstance(node, ast.BinOp):
            return self.behind_all([node.left, node.right])
        return self.behind_call(node) if isinstance(node, ast.Call) else frozenset()

    def behind_call(self, call: ast.Call) -> frozenset[str]:
        """The same for a call: a view of an attribute, or a function of attributes and constants only."""
        called, receiver = _called(call), self.receiver(call)
        own = isinstance(receiver, ast.Name) and receiver.id == self.self_name
        if not called or own or called in _MATMUL or called in _POSITIONS:
            return frozenset()
        operands = call.args if receiver is None else [receiver, *call.args]
        if called in _VIEWS and operands:
            return self.behind(operands[0])
        return self.behind_all([*operands, *(keyword.value for keyword in call.keywords)])

    def behind_all(self, nodes: list[ast.expr]) -> frozenset[str]:
        """The attributes behind several expressions together; none if another value enters in one of them."""
        behind = [self.behind(node) for node in nodes if not self.fixed(node)]
        return frozenset().union(*behind) if behind and all(behind) else frozenset()

    def fixed(self, node: ast.expr) -> bool:
        """Whether it is a constant: 2, -1, torch.float32."""
        while isinstance(node, (ast.UnaryOp, ast.Attribute)):
            node = node.operand if isinstance(node, ast.UnaryOp) else node.value
        return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id not in self.variables)

    def receiver(self, call: ast.Call) -> ast.expr | None:
        """The tensor whose method is called; None for a function, of a library say: F.linear, torch.cat."""
        if not isinstance(call.func, ast.Attribute):
            return None
        start = call.func.value
        while isinstance(start, ast.Attribute):
            start = start.value
        foreign = isinstance(start, ast.Name) and start.id not in self.variables
        return None if foreign else call.func.value

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.bind(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
            self.bind(node.target, node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        self.operator(node.op, node.value)
        if isinstance(node.target, ast.Name) and not self.behind(node.value):
            self.local[node.target.id] = frozenset()

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self.iterate(node.target, node.iter)
        self.visit_body(node.body)
        self.visit_body(node.orelse)

    def iterate(self, target: ast.expr, source: ast.expr) -> None:
        """Bind what a loop takes from `self.list`, `enumerate(self.list)` or `zip(self.list, …)`."""
        if isinstance(source, ast.Call) and isinstance(target, ast.Tuple):
            if _called(source) == "enumerate" and len(target.elts) == 2 and source.args:
                self.iterate(target.elts[1], source.args[0])
            elif _called(source) == "zip" and len(target.elts) == len(source.args):
                for one, origin in zip(target.elts, source.args, strict=True):
                    self.iterate(one, origin)
            return
        self.bind(target, source)

    def bind(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.local[target.id] = self.behind(value)
        elif isinstance(target, ast.Tuple):
            several = isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts)
            values = value.elts if isinstance(value, ast.Tuple) and several else [value] * len(target.elts)
            for one, origin in zip(target.elts, values, strict=True):
                self.bind(one, origin)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self.generic_visit(node)
        if not any(isinstance(side, ast.Constant) for side in (node.left, node.right)):
            self.operator(node.op, node.left)
            self.operator(node.op, node.right)

    def operator(self, op: ast.operator, operand: ast.expr) -> None:
        if isinstance(op, ast.MatMult):
            self.note(operand, "matmul")
        elif isinstance(op, ast.Mult):
            self.note(operand, "scaled")
        elif isinstance(op, (ast.Add, ast.Sub)):
            self.note(operand, "added")

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        called = _called(node)
        receiver = self.receiver(node)
        operands = [*node.args] if receiver is None else [receiver, *node.args]
        if called in _POSITIONS and receiver is None:
            use, weight, bias = _POSITIONS[called]
            self.note(_argument(node, weight, "weight"), use)
            self.note(_argument(node, bias, "bias"), "norm" if use == "norm" else "bias")
        elif called in _JOINING:
            for operand in operands[:1]:
                for item in operand.elts if isinstance(operand, (ast.List, ast.Tuple)) else [operand]:
                    self.note(item, "joined")
        elif called in _OPERANDS:
            first, others = _OPERANDS[called]
            for position, operand in enumerate(operands):
                self.note(operand, others if position else first)

    def normalizes(self, node: ast.AST) -> bool:
        """Whether the node belongs to dividing by a norm or a deviation: rsqrt, var, pow(-0.5)."""
        if isinstance(node, ast.Call):
            if _called(node) in _NORMALIZING:
                return True
            return _called(node) in ("pow", "power") and any(_number(given) == -0.5 for given in node.args)
        return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and _number(node.right) == -0.5


def _called(node: ast.Call) -> str:
    """The last name of what is called: "linear" for F.linear(...)."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _argument(node: ast.Call, position: int, keyword: str) -> ast.expr | None:
    for given in node.keywords:
        if given.arg == keyword:
            return given.value
    return node.args[position] if 0 <= position < len(node.args) else None


def _number(node: ast.expr) -> float | None:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return None
    return float(value) if isinstance(value, (int, float)) else None
