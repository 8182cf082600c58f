"""Which parameters a loss penalizes: read from its autograd graph."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torchdecay.errors import ApplyError

# Nodes that bend: a term without any of them is linear in the weight, and no penalty.
_BENDING = {
    "Pow", "Abs", "Norm", "LinalgVectorNorm", "ForeachNorm", "Dot", "Sqrt", "Exp", "Log1P", "Cosh", "_Penalty",
    "MseLoss", "HuberLoss", "SmoothL1Loss", "Maximum", "ClampMin", "Relu",
}  # fmt: skip
# Nodes that keep a function of weights and numbers one, without bending it.
_KEEPING = {
    "Mul", "Div", "Sum", "Mean", "Stack", "Cat", "View", "UnsafeView", "Reshape", "ReshapeAlias", "ToCopy", "Add",
    "Sub", "Rsub", "Clone", "Neg", "Select", "Slice", "Unsqueeze", "Squeeze", "Expand", "T", "Transpose", "Permute",
    "Alias", "Unbind",
}  # fmt: skip
# How a penalty is joined to the rest of a loss: sums, and multiples of sums.
_JOINING = {"Add", "Sub", "Sum", "Mean", "Mul", "Div", "ToCopy", "View", "Reshape", "Stack", "Cat", "Neg", "Squeeze",
            "Clone", "Select", "Unbind"}  # fmt: skip
_PAIRS = {"Mul", "Div", "Dot", "Add", "Sub", "MseLoss", "HuberLoss", "SmoothL1Loss", "Maximum"}
_SAVED = ("_saved_self", "_saved_other", "_saved_tensor", "_saved_target")


@dataclass(frozen=True)
class _Part:
    """A node: made of weights and numbers alone; bent; the weights below it; how many elements it has."""

    pure: bool
    bent: bool
    leaves: frozenset[int]


def penalized_parameters(loss: Tensor) -> set[int]:
    """Identities of the leaves that the loss depends on through a penalty: a bent term made of the weight alone.

    Every node is asked whether all that lies below it is functions of weights and numbers; then the weights below
    the largest such parts, joined to the rest of the loss by sums, are penalized.

    Raises:
        ApplyError: the graph was freed by a backward pass.
    """
    if loss.grad_fn is None:
        return set()
    parts = _parts_below(loss.grad_fn)
    found: set[int] = set()
    stack, seen = [loss.grad_fn], set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if parts[node].pure:
            found |= parts[node].leaves if parts[node].bent else set()
        elif _name(node) in _JOINING:
            stack += _below(node)
    return found


def _parts_below(root: Any) -> dict[Any, _Part]:
    parts: dict[Any, _Part] = {}
    stack = [root]
    while stack:
        node = stack[-1]
        waiting = [child for child in _below(node) if child not in parts]
        if waiting and node not in parts:
            stack += waiting
            continue
        stack.pop()
        if node not in parts:
            parts[node] = _part(node, [parts[child] for child in _below(node)])
    return parts


def _part(node: Any, below: list[_Part]) -> _Part:
    name = _name(node)
    if name == "AccumulateGrad":
        return _Part(True, False, frozenset({id(node.variable)}))
    known = name in _BENDING or name in _KEEPING
    if not (known and below and all(child.pure for child in below)) or _meets_data(node, name):
        # What lies below an impure node is of no use to anybody, so its leaves are not collected.
        return _Part(False, False, frozenset())
    # A product of two weights bends: w * w is as much a penalty as w ** 2.
    bent = name in _BENDING or any(child.bent for child in below) or (name == "Mul" and len(below) > 1)
    leaves = below[0].leaves if len(below) == 1 else frozenset().union(*(child.leaves for child in below))
    return _Part(True, bent, leaves)


def _below(node: Any) -> list[Any]:
    return [child for child, _ in node.next_functions if child is not None]


def _name(node: Any) -> str:
    return re.sub(r"Backward\d*$", "", type(node).__name__)


def _meets_data(node: Any, name: str) -> bool:
    """Whether the node joins a weight to a tensor of data: one with more than one number, that is no weight."""
    if name not in _PAIRS or len(_below(node)) == len(node.next_functions):
        return False
    if name in ("Add", "Sub"):
        # These keep nothing; but a weight that a batch was added to has grown. A reference is of the weight's shape.
        return _elements(node) > max(_elements(child) for child in _below(node))
    if name in ("MseLoss", "HuberLoss", "SmoothL1Loss"):
        return False
    present = {id(child.variable) for child in _below(node) if _name(child) == "AccumulateGrad"}
    for saved in _SAVED:
        try:
            factor = getattr(node, saved, None)
        except RuntimeError as error:
            raise ApplyError(
                "the graph of loss= was freed by a backward pass.",
                "A penalty is found by what the graph multiplies.",
                "Give a loss that was just computed, or call backward(retain_graph=True).",
            ) from error
        if isinstance(factor, Tensor) and factor.numel() > 1 and id(factor) not in present and not factor.requires_grad:
            return True
    return False


def _elements(node: Any) -> int:
    if _name(node) == "AccumulateGrad":
        return int(node.variable.numel())
    metadata = getattr(node, "_input_metadata", ())
    return math.prod(metadata[0].shape) if metadata else 0
