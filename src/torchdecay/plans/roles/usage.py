"""How a class uses its own parameters, read from its source without running it; see `flow` for how.

matmul    an operand of @, matmul, einsum, F.linear and their like, the other one being no parameter
factor    the same among parameters alone
conv      the weight of a convolution
bias      the bias argument of one of these
lookup    the table of F.embedding
indexed   rows of it are chosen by a value that comes in
compared  distances to it are taken
norm      the weight or bias of F.layer_norm and its like
scaled    a factor of a product, or a divisor
normed    scaled, in a method that divides by a norm or a deviation of what comes in
filtered  scaled, in a method that takes a spectrum
dot -1    multiplied with what comes in, then summed over this axis of the parameter
summed    the same, over an axis that is not known
added     a term of a sum
logits    squashed by softmax, sigmoid, softplus or exp before anything else
joined    an item of cat or stack, or put in the place of what comes in
expanded  repeated along the batch
input     handed to a layer as what it transforms
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from torch import nn

from torchdecay.plans.names import per_class
from torchdecay.plans.roles.flow import Reader
from torchdecay.plans.roles.frames import Bound
from torchdecay.plans.roles.operations import SQUASHING
from torchdecay.plans.tree import Node

Uses = Mapping[str, frozenset[str]]
NO_USE: frozenset[str] = frozenset()
_DIGITS = re.compile(r"\d+")
_FOREIGN = ("torch", "builtins", "abc", "typing")


class Usage:
    """What the source of a module class says of its attributes.

    Attributes:
        uses: attribute, or path to one of a child's, → its uses.
        tables: children whose weight is only indexed by position, and that are never called.
        asked: children whose nature matters, as they are called with parameters.
        from_one: attributes that are used as 1 + w.
    """

    def __init__(self, kind: type, natures: Mapping[str, Any]) -> None:
        reader = Reader(kind, natures)
        for base in kind.__mro__:
            if base is nn.Module or base.__module__.partition(".")[0] in _FOREIGN:
                continue
            for name, method in vars(base).items():
                if name != "__init__" and inspect.isfunction(method):
                    reader.read(inspect.unwrap(method))
                elif isinstance(method, property) and method.fget is not None:
                    reader.read(inspect.unwrap(method.fget))
        for name in ("weight", "bias"):
            # A torch layer whose weight is made from others by a property.
            if use := _used_by_torch(kind, name):
                reader.read(inspect.unwrap(inspect.getattr_static(kind, name).fget), returned=use)
        self.uses: Uses = {name: frozenset(uses) for name, uses in reader.found.items()}
        self.tables = frozenset(child for child, count in reader.indexed.items() if reader.seen.get(child) == count)
        self.asked, self.from_one = tuple(sorted(reader.asked)), frozenset(reader.from_one)

    def of(self, name: str) -> frozenset[str]:
        """The uses of an attribute, also of one that the source names by a pattern."""
        found = self.uses.get(name)
        if found is None and self.uses and name[-1:].isdigit():
            found = self.uses.get(_DIGITS.sub("*", name))
        return found or NO_USE


def _used_by_torch(kind: type, name: str) -> str:
    """What torch's own forward does with a property of a class that derives from a layer of torch's."""
    if not isinstance(inspect.getattr_static(kind, name, None), property):
        return ""
    linear, conv = issubclass(kind, (nn.Linear, nn.Bilinear)), issubclass(kind, nn.modules.conv._ConvNd)
    return "" if not linear and not conv else "bias" if name == "bias" else "matmul" if linear else "conv"


@per_class
def mentioned(kind: type) -> frozenset[str]:
    """The names in the code of a class, which is cheap to know; what is not among them need not be read for."""
    found: set[str] = set()
    codes = [
        inspect.unwrap(method).__code__
        for base in kind.__mro__
        if base is not nn.Module and base.__module__.partition(".")[0] not in _FOREIGN
        for method in vars(base).values()
        if inspect.isfunction(method) and inspect.isfunction(inspect.unwrap(method))
    ]
    while codes:
        code = codes.pop()
        found.update(code.co_names)
        codes += [one for one in code.co_consts if inspect.iscode(one)]
    return frozenset(found)


def tables(module: nn.Module) -> frozenset[str]:
    """The children of a module that only serve as tables, see `Usage`."""
    return of(module).tables if "weight" in mentioned(type(module)) else NO_USE


@lru_cache(maxsize=4096)
def _read(kind: type, natures: tuple[tuple[str, Any], ...] = ()) -> Usage:
    return Usage(kind, dict(natures))


def of(module: nn.Module) -> Usage:
    """The usage of a module's attributes, in the light of the children that it calls with parameters."""
    kind: Any = type(module)
    plain = _read(kind)
    natures = tuple((name, _nature(module, name)) for name in plain.asked)
    return _read(kind, natures) if natures else plain


def _nature(module: nn.Module, name: str) -> Any:
    """What a child does with a parameter that it is called with; see `Reader`."""
    child: Any = module
    for segment in name.split("."):
        if not isinstance(child, nn.Module):
            return ""
        child = child._modules.get(segment, vars(child).get(segment))
    if not isinstance(child, nn.Module):
        return inspect.unwrap(child) if inspect.isfunction(child) else ""
    if any(True for _ in child.parameters()):
        return "layer"
    kind = type(child)
    if kind.__name__.lower() in SQUASHING:
        return "squashing"
    own = kind.__module__.partition(".")[0] not in _FOREIGN and inspect.isfunction(kind.forward)
    return Bound(inspect.unwrap(kind.forward)) if own else "function"


def at(node: Node, attribute: str) -> frozenset[str]:
    """The uses of a parameter by the module that holds it and by those above, which may use it themselves."""
    found = of(node.module).of(attribute)
    path, above, below = attribute, node.parent, node.segment
    prefix = ""
    for _ in range(3):
        if above is None:
            break
        if not below.isdigit():
            path = f"{below}.{path}"
            prefix = f"{below}.{prefix}" if prefix else below
        usage = of(above.module)
        if usage.uses:
            found |= usage.of(path)
            if prefix:
                # Who indexes a module takes a part of it, and not rows of a table.
                found |= usage.of(prefix) - {"indexed"}
        below, above = above.segment, above.parent
    return found
