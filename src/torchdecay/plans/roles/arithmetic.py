"""What operators and torch's functions do with the attributes of self: noted as their uses."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from torchdecay.plans.roles import operations
from torchdecay.plans.roles.syntax import axes_of, is_one, number_of, pattern_of
from torchdecay.plans.roles.values import CONSTANT, FOREIGN, Value, mixed, squashed, viewed


class Arithmetic:
    """Notes what becomes of values; none of it reads an expression.

    Attributes:
        noted: the uses of each attribute in the method that is read.
        flags: what the method does besides: "normed" for a normalization, "filtered" for a spectrum.
        from_one: attributes that are added to one, in any of the methods.
    """

    def __init__(self) -> None:
        self.noted: dict[str, set[str]] = {}
        self.flags: set[str] = set()
        self.from_one: set[str] = set()

    def note(self, value: Value, use: str) -> None:
        """A use of the attributes that a value is a function of; of what is squashed only that it is."""
        if not use or value.foreign:
            return
        for name in value.raw:
            self.noted.setdefault(name, set()).add(use)
        for name in value.squashed:
            self.noted.setdefault(name, set()).add("logits")

    def note_ones(self, sides: Sequence[Value], nodes: Sequence[ast.expr]) -> None:
        """The attribute that a term is a function of, where another term of the sum is one."""
        ones = [node for node in nodes if is_one(node)]
        for side, node in zip(sides, nodes, strict=False):
            if len(side.own) == 1 and any(one is not node for one in ones):
                self.from_one |= side.own

    def operate(self, op: ast.operator, left: Value, right: Value, divisor: ast.expr) -> Value:
        """An operator between two values."""
        sides = (left, right)
        if isinstance(op, ast.MatMult):
            return self.contracted(sides)
        if isinstance(op, ast.Mult):
            return self.multiply(sides)
        if isinstance(op, (ast.Div, ast.Pow)):
            # A parameter over its own norm is a function of the parameter.
            if left.foreign:
                self.note(right, "scaled")
            elif right.foreign and isinstance(op, ast.Div):
                self.note(left, "scaled")
            return mixed(sides, left.products | right.products)
        if isinstance(op, (ast.Add, ast.Sub)):
            if any(side.foreign for side in sides):
                for side in sides:
                    self.note(side, "added")
            if isinstance(op, ast.Add) and left.items is not None and right.items is not None:
                return mixed(sides)._replace(items=left.items + right.items)
            return _aligned(mixed(sides, left.products | right.products), sides)
        return mixed(sides)

    def multiply(self, sides: Sequence[Value]) -> Value:
        """An elementwise product; what comes in times a parameter may become a dot product by a sum."""
        # By a plain constant a parameter is only scaled or shifted.
        if all(side.foreign or side.own for side in sides):
            for side in sides:
                self.note(side, "scaled")
        pending = {pair for side in sides for pair in side.products}
        if any(side.foreign for side in sides):
            pending |= {(name, side.trailing) for side in sides if not side.foreign for name in side.raw}
        return _aligned(mixed(sides, frozenset(pending)), sides)

    def contracted(self, sides: Sequence[Value], notes: tuple[str, str] = ("matmul", "matmul")) -> Value:
        """A matrix product with what comes in; one of parameters alone is noted where the result is used."""
        foreign = any(side.foreign for side in sides)
        for position, side in enumerate(sides):
            use = notes[1] if position else notes[0]
            self.note(side, use if foreign or use != "matmul" else "factor")
        return mixed(sides)

    def known(
        self, name: str, receiver: Value | None, given: Sequence[Value], named: Mapping[str, Value], node: ast.Call
    ) -> Value | None:
        """A call of something in the tables; None for anything else."""
        operands = [*([receiver] if receiver is not None else []), *given]
        first = operands[0] if operands else next(iter(named.values()), CONSTANT)
        if name == "add":
            behind = [node.func.value] if receiver is not None and isinstance(node.func, ast.Attribute) else []
            self.note_ones(operands, [*behind, *node.args])
        if name in ("rsqrt", "rsqrt_") or (name in operations.NORMALIZING and first.foreign):
            self.flags.add("normed")
        if name in ("pow", "power") and first.foreign and any(number_of(one) == -0.5 for one in node.args):
            self.flags.add("normed")
        if "fft" in name:
            self.flags.add("filtered")
        if name in operations.SIZES:
            return CONSTANT
        if name in operations.POSITIONS and receiver is None:
            use, weight, bias = operations.POSITIONS[name]
            self.note(_argument(given, named, weight, "weight"), use)
            self.note(_argument(given, named, bias, "bias"), "norm" if use == "norm" else "bias")
            return mixed([*given, *named.values()])
        if name in operations.JOINING and operands:
            made = mixed(operands)
            for item in first.items if first.items is not None else [first]:
                self.note(item, "joined" if made.foreign else "")
            return made
        if name in operations.SUMS and operands:
            return self._summed(first, receiver, given, named, node)
        if name in operations.SQUASHING and operands:
            return self.squash(mixed([first, *(one for one in operands[1:] if one.own)]))
        if name in ("einsum", "contract") and operands:
            return self._einsum(operands, node)
        if name in operations.PRODUCTS and operands:
            return self.multiply(operands)
        if name in operations.MATMUL or name in ("addmm", "addmv", "baddbmm", "addbmm"):
            flat = [item for one in operands for item in (one.items if one.items is not None else [one])]
            return self.contracted(flat, operations.OPERANDS[name])
        if name in operations.OPERANDS and operands:
            one, others = operations.OPERANDS[name]
            mixture = mixed(operands)
            for position, operand in enumerate(operands):
                use = others if position else one
                self.note(operand, use if mixture.foreign or use != "joined" else "")
            if name not in operations.VIEWS:
                return mixture._replace(products=frozenset().union(*(one.products for one in operands)))
        if name in operations.VIEWS and operands:
            return self._view(name, first, receiver, node)
        if name in operations.CASTS and operands:
            return first
        return None

    def squash(self, value: Value) -> Value:
        """A softmax and its like, which makes logits of what it is given."""
        made = squashed(value)
        self.note(made, "logits")
        return made

    def _view(self, name: str, value: Value, receiver: Value | None, node: ast.Call) -> Value:
        if name in operations.CASTS:
            return value
        args = node.args if receiver is not None else node.args[1:]
        trailing: int | None = None
        if value.trailing is not None and name in ("unsqueeze", "view", "reshape", "expand", "repeat", "expand_as"):
            sizes = [number_of(one) for one in args]
            if name == "unsqueeze" and sizes:
                trailing = value.trailing + 1 if sizes[0] == -1 else value.trailing if sizes[0] == 0 else None
            elif name in ("view", "reshape") and sizes.count(-1) == 1 and all(one in (1, -1) for one in sizes):
                trailing = sizes[::-1].index(-1)
            elif name in ("expand", "repeat", "expand_as"):
                trailing = value.trailing
        made = viewed(value, trailing)
        return made if value.foreign or name not in ("chunk", "split", "unbind") else made._replace(items=None)

    def _summed(
        self, value: Value, receiver: Value | None, given: Sequence[Value], named: Mapping[str, Value], node: ast.Call
    ) -> Value:
        """A sum; over an axis of a parameter that was multiplied in before, it is a dot product with it."""
        said = next((word.value for word in node.keywords if word.arg in ("dim", "axis")), None)
        args = node.args if receiver is not None else node.args[1:]
        where = said if said is not None else args[0] if args else None
        axes = where.elts if isinstance(where, (ast.Tuple, ast.List)) else [where] if where is not None else []
        # All axes from one on: list(range(1, x.ndim)).
        numbers = [-1.0] if isinstance(where, ast.Call) else [number_of(one) for one in axes]
        for name, trailing in value.products:
            uses = self.noted.setdefault(name, set())
            for axis in numbers or [None]:
                if axis is None or axis >= 0 or trailing is None:
                    uses.add("summed")
                elif axis + trailing < 0:
                    uses.add(f"dot {int(axis) + trailing}")
        return viewed(value, None)._replace(products=frozenset())

    def _einsum(self, operands: Sequence[Value], node: ast.Call) -> Value:
        """Contracted, unless every axis of a parameter stays in the result."""
        said = next((text for text in map(pattern_of, node.args) if text), "")
        tensors = (
            operands[1:] if node.args and pattern_of(node.args[0]) else [one for one in operands if one != CONSTANT]
        )
        inputs, _, output = said.partition("->")
        axes = [axes_of(one) for one in inputs.split(",")]
        foreign = any(one.foreign for one in tensors)
        for position, one in enumerate(tensors):
            use = "matmul" if foreign else "factor"
            if output and len(axes) == len(tensors):
                use = "scaled" if axes[position] <= axes_of(output) else use
            self.note(one, use)
        return mixed(tensors)


def _aligned(made: Value, sides: Sequence[Value]) -> Value:
    """A value keeps its axes through a sum or product with constants."""
    own = [side for side in sides if side.own]
    return made._replace(trailing=own[0].trailing) if len(own) == 1 and not made.foreign else made


def _argument(given: Sequence[Value], named: Mapping[str, Value], position: int, keyword: str) -> Value:
    if keyword in named:
        return named[keyword]
    return given[position] if 0 <= position < len(given) else FOREIGN
