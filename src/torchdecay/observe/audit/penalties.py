"""Which parameters a loss penalizes: read from its autograd graph."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from torchdecay.errors import ApplyError

# Nodes that make a function that is least at 0, or at a reference, of one that is linear; those of two arguments apart.
_DISTANCES = {"MseLoss", "HuberLoss", "SmoothL1Loss", "L1Loss"}
_NORMS = {"Norm", "LinalgVectorNorm", "ForeachNorm", "_Penalty"}
_EVENING = {"Pow", "Abs", "Cosh", "LinalgSvd", *_NORMS, *_DISTANCES}
# Nodes that grow with what is below them.
_GROWING = {"Sqrt", "Exp", "Log", "Log1P", "Maximum", "ClampMin", "Relu", "Max", "Amax"}
# Nodes that keep a function of weights and numbers what it is.
_KEEPING = {
    "Mul", "Div", "Sum", "Mean", "Stack", "Cat", "View", "UnsafeView", "Reshape", "ReshapeAlias", "ToCopy", "Add",
    "Sub", "Rsub", "Clone", "Neg", "Select", "Slice", "Unsqueeze", "Squeeze", "Expand", "T", "Transpose", "Permute",
    "Alias", "Unbind", "Clamp", "Trace", "Diagonal",
}  # fmt: skip
_REORDERING = {"View", "UnsafeView", "Reshape", "ReshapeAlias", "Permute", "Transpose", "T", "Clone", "ToCopy"}
_PRODUCTS = {"Mul", "Dot", "Vdot", "Mm", "Bmm"}
# How a penalty is joined to the rest of a loss: sums, and multiples of sums.
_JOINING = {"Add", "Sub", "Sum", "Mean", "Mul", "Div", "ToCopy", "View", "Reshape", "Stack", "Cat", "Neg", "Squeeze",
            "Clone", "Select", "Unbind", "Rsub"}  # fmt: skip
_PAIRS = {*_PRODUCTS, "Div", "Add", "Sub", "Maximum"}
_SAVED = ("_saved_self", "_saved_other", "_saved_tensor", "_saved_target", "_saved_mat2")

Kind = Literal["", "linear", "even", "shifted", "gram"]
"""
What a node is of the weights below it: "linear"; "even", least at 0 or at a reference, so that it pulls there;
"shifted", an even one less a number, which pulls somewhere else once it is squared; "gram", a product of a weight with
itself, whose diagonal is even; "" for anything else, and where data takes part.
"""


class _Part(NamedTuple):
    kind: Kind
    leaves: frozenset[int] = frozenset()


def penalized_parameters(loss: Tensor) -> set[int]:
    """Identities of the leaves that the loss depends on through a penalty: an even term made of the weight alone.

    Every node is asked what it is of the weights below it; then the weights below the largest even parts that are
    joined to the rest of the loss by sums are penalized, if the loss grows with the part, and the part's gradient is
    not 0. Parameters by which parts of the loss are weighed are not.

    Raises:
        ApplyError: the graph was freed by a backward pass.
    """
    if loss.grad_fn is None:
        return set()
    parts = _parts_below(loss.grad_fn)
    found: list[Any] = []
    weighing: set[int] = set()
    stack, seen = [loss.grad_fn], set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        below = _below(node)
        if parts[node].kind:
            found += [node] if parts[node].kind in ("even", "shifted") else []
        elif _name(node) in ("Mul", "Div") and len(below) > 1:
            weighing |= {leaf for one in below if _elements(one) == _elements(node) for leaf in parts[one].leaves}
        elif _name(node) in _JOINING:
            stack += below
    return _pulled(loss, [(node, parts[node].leaves) for node in found]) - weighing


def _pulled(loss: Tensor, terms: list[tuple[Any, frozenset[int]]]) -> set[int]:
    """Those below the terms whose gradient is not 0, of terms that the loss grows with; who can't be asked, counts."""
    edges = [GradientEdge(node, 0) for node, _ in terms]
    slopes = _gradients(loss, edges, torch.ones_like(loss))
    found: set[int] = set()
    for place, (node, leaves) in enumerate(terms):
        slope = None if slopes is None else slopes[place]
        if slope is None or not bool((slope > 0).any()):
            found |= leaves if slopes is None else frozenset()
            continue
        # A hook of somebody's would hear of a backward pass that is none.
        below = {id(one): one for one in _variables(node) if id(one) in leaves and not one._backward_hooks}
        pulls = _gradients(edges[place], list(below.values()), slope)
        found |= leaves.difference(
            key for key, pull in zip(below, pulls or (), strict=False) if pull is None or not pull.any()
        )
    return found


def _gradients(of: Any, by: list[Any], slope: Tensor) -> list[Tensor | None] | None:
    """Of one by others, None where it does not depend on them; None for all where autograd refuses."""
    try:
        return list(torch.autograd.grad([of], by, [slope], retain_graph=True, allow_unused=True)) if by else []
    except (RuntimeError, TypeError):
        return None


def _variables(root: Any) -> Iterator[Tensor]:
    """The leaves below a node."""
    stack, seen = [root], set()
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack += _below(node)
            if _name(node) == "AccumulateGrad":
                yield node.variable


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
        return _Part("linear", frozenset({id(node.variable)}))
    if not below or not all(one.kind for one in below) or _meets_data(node, name):
        return _Part("")
    kind = _of_one(name, below[0].kind) if len(below) == 1 else _of_several(node, name, below)
    if kind in ("even", "shifted") and name not in _EVENING and _turns(node, name):
        kind = ""
    # What lies below a node that is nothing is of no use to anybody, so its leaves are not collected.
    return _Part(kind, frozenset().union(*(one.leaves for one in below)) if kind else frozenset())


def _of_one(name: str, below: Kind) -> Kind:
    if below == "gram":
        return "even" if name in ("Trace", "Diagonal") else "gram" if name in _REORDERING else ""
    if name in _EVENING:
        return "" if below == "shifted" else "even"
    if name in _GROWING:
        return "" if below == "linear" or (below == "shifted" and name == "Relu") else "even"
    if name == "Sub" and below == "even":
        return "shifted"
    return below if name in _KEEPING else ""


def _of_several(node: Any, name: str, below: list[_Part]) -> Kind:
    kinds = {one.kind for one in below}
    if name in _PRODUCTS:
        if len({one.leaves for one in below}) > 1 or kinds not in ({"linear"}, {"even"}):
            return ""
        is_dot = name in ("Mul", "Dot", "Vdot") or _shape(node)[-2:] == (1, 1)
        return "even" if is_dot else "gram" if kinds == {"linear"} else ""
    if name in _NORMS:
        return "even"
    if name in ("Add", "Stack", "Cat", "Maximum"):
        return "even" if kinds <= {"even", "shifted"} else "linear" if kinds == {"linear"} else ""
    # A difference of weights pulls them toward each other, and one of penalties is two terms of the loss.
    return ""


def _turns(node: Any, name: str) -> bool:
    """Whether it makes what is least at 0 greatest there, or a sum in which one part may be so."""
    if name in ("Neg", "Rsub"):
        return True
    if name in ("Mul", "Div") and len(_below(node)) == 1:
        factors = (getattr(node, saved, None) for saved in ("_saved_self", "_saved_other"))
        return any(isinstance(one, Tensor) and one.numel() == 1 and bool(one <= 0) for one in factors)
    return bool(getattr(node, "_saved_alpha", 1) <= 0) if name == "Add" and len(_below(node)) > 1 else False


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


def _shape(node: Any) -> tuple[int, ...]:
    metadata = getattr(node, "_input_metadata", ())
    return tuple(metadata[0].shape) if metadata else (0,)


def _elements(node: Any) -> int:
    return int(node.variable.numel()) if _name(node) == "AccumulateGrad" else math.prod(_shape(node))
