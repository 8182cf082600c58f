"""Which parameters a loss penalizes: read from its autograd graph."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from torchdecay.errors import ApplyError

# Nodes that keep a penalty a penalty: functions of one weight, sums of such, and products with numbers.
_SHAPING = (
    "Pow", "Square", "Mul", "Abs", "Sum", "Mean", "Norm", "LinalgVectorNorm", "Stack", "Cat", "View", "Reshape",
    "UnsafeView", "ToCopy", "Add", "Sub", "Div", "Sqrt", "Clone", "Dot", "Neg", "_Penalty", "Huber", "Select",
    "Unsqueeze", "Squeeze", "Expand",
)  # fmt: skip


def penalized_parameters(loss: Tensor) -> set[int]:
    """Identities of the leaves that the loss depends on through a penalty: a term made of the weight alone.

    Every node is asked whether all that lies below it is functions of weights and numbers; then the weights below
    the largest such parts, joined to the rest of the loss by sums, are penalized.
    """
    memo: dict[Any, tuple[bool, frozenset[int]]] = {}
    if loss.grad_fn is None:
        return set()
    _visit_all(loss.grad_fn, memo)
    found: set[int] = set()
    stack, seen = [loss.grad_fn], set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        pure, leaves = memo[node]
        if pure and not _is_leaf(node):
            found |= leaves
        elif _is_sum(node):
            stack += [below for below, _ in node.next_functions if below is not None]
    return found


def _visit_all(root: Any, memo: dict[Any, tuple[bool, frozenset[int]]]) -> None:
    stack = [root]
    while stack:
        node = stack[-1]
        below = [child for child, _ in node.next_functions if child is not None]
        waiting = [child for child in below if child not in memo]
        if waiting and node not in memo:
            stack += waiting
            continue
        stack.pop()
        if node not in memo:
            memo[node] = _judge(node, below, memo)


def _judge(node: Any, below: list[Any], memo: dict[Any, tuple[bool, frozenset[int]]]) -> tuple[bool, frozenset[int]]:
    if _is_leaf(node):
        return True, frozenset({id(node.variable)})
    leaves = frozenset().union(*(memo[child][1] for child in below)) if below else frozenset()
    pure = bool(below) and _shapes(node) and all(memo[child][0] for child in below)
    return pure and not _meets_data(node), leaves


def _is_leaf(node: Any) -> bool:
    return type(node).__name__ == "AccumulateGrad"


def _name(node: Any) -> str:
    return type(node).__name__.removesuffix("0").removesuffix("1").removesuffix("Backward")


def _shapes(node: Any) -> bool:
    return _name(node) in _SHAPING


def _is_sum(node: Any) -> bool:
    return _name(node) in ("Add", "Sub", "Sum", "Mean", "Mul", "Div", "ToCopy", "View", "Stack", "Cat")


def _meets_data(node: Any) -> bool:
    """Whether a product has a factor that is a tensor of data: more than one number, and no weight."""
    if _name(node) not in ("Mul", "Div", "Dot", "Add", "Sub"):
        return False
    missing = [index for index, (child, _) in enumerate(node.next_functions) if child is None]
    for index in missing:
        try:
            factor = getattr(node, ("_saved_self", "_saved_other", "_saved_tensor")[min(index, 2)], None)
        except RuntimeError as error:
            raise ApplyError(
                "the graph of loss= was freed by a backward pass.",
                "A penalty is found by what the graph multiplies.",
                "Give a loss that was just computed, or call backward(retain_graph=True).",
            ) from error
        if isinstance(factor, Tensor) and factor.numel() > 1:
            return True
    return False
