"""The tree of a model's modules, walked once, and every place in it where a parameter stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import nn
from torch.nn.parameter import is_lazy

from torchdecay.errors import PlanError
from torchdecay.plans.names import transparent_children
from torchdecay.sharding import tell_flat


class Node(NamedTuple):
    """A module where it stands in the tree: one shared between two parents has two nodes.

    Attributes:
        module: the module.
        segment: its name inside its parent, "" at the root.
        parent: the node above, None at the root.
        raw: the dotted path as torch gives it.
        path: the dotted path without the segments of wrappers.
        segments: that path's segments.
    """

    module: nn.Module
    segment: str
    parent: Node | None
    raw: str
    path: str
    segments: tuple[str, ...]


def nodes(model: nn.Module) -> Iterator[Node]:
    """Every node in the tree, in the order of `named_modules`; a shared module once for each parent."""
    stack = [Node(model, "", None, "", "", ())]
    while stack:
        node = stack.pop()
        yield node
        children = node.module._modules
        hidden = children.keys() if isinstance(node.module, Models) else transparent_children(type(node.module))
        for segment, child in reversed(children.items()):
            # A module without children is in no circle.
            if child is None or (child._modules and _above(node, child)):
                continue
            raw = f"{node.raw}.{segment}" if node.raw else segment
            if segment in hidden:
                stack.append(Node(child, segment, node, raw, node.path, node.segments))
            else:
                path = raw if node.path == node.raw else f"{node.path}.{segment}" if node.path else segment
                stack.append(Node(child, segment, node, raw, path, (*node.segments, segment)))


class Occurrence(NamedTuple):
    """A parameter under one of its names.

    Attributes:
        name: canonical: without the segments of wrappers.
        node: the module that holds it.
        attribute: the name under which that module holds it.
        tensor: the parameter.
        shape: its sizes, outside any shard; () for a lazy parameter, which has none yet, and a nested one.
    """

    name: str
    node: Node
    attribute: str
    tensor: nn.Parameter
    shape: tuple[int, ...]

    @property
    def raw(self) -> str:
        """The name that torch gives it here."""
        return f"{self.node.raw}.{self.attribute}" if self.node.raw else self.attribute


def occurrences(tree: Iterable[Node]) -> Iterator[Occurrence]:
    """Every parameter of a model's `nodes`, once for every name that it has."""
    taken: dict[str, nn.Parameter] = {}
    whole: dict[int, tuple[int, ...]] = {}
    for node in tree:
        if "_handle" in node.module.__dict__:
            tell_flat(node.module)
            whole |= _whole_shapes(node.module)
        for attribute, tensor in node.module._parameters.items():
            if tensor is None:
                continue
            name = f"{node.path}.{attribute}" if node.path else attribute
            if name in taken:
                if taken[name] is tensor:
                    continue
                # Two tensors that differ by a wrapper's segment only keep the names that torch gives them.
                name = f"{node.raw}.{attribute}"
            taken[name] = tensor
            shapeless = is_lazy(tensor) or tensor.is_nested
            shape = (whole.get(id(tensor)) if whole else None) or (() if shapeless else tuple(tensor.shape))
            yield Occurrence(name, node, attribute, tensor, shape)


def _whole_shapes(module: nn.Module) -> dict[int, tuple[int, ...]]:
    """`id(parameter)` → its shape before FSDP1 made it 1-D, for the parameters below a module that FSDP1 wraps.

    FSDP2's DTensors report their whole shape themselves. With `use_orig_params=False` the parameters are gone, and
    nothing can be said about the flat one that is left.
    """
    flat = getattr(vars(module)["_handle"], "flat_param", None)
    originals = getattr(flat, "_params", None)
    if flat is None or originals is None:
        return {}
    # Parameters tied inside one FSDP unit stand in `_params` once, so the two lists run together.
    return {id(p): tuple(shape) for p, shape in zip(originals, flat._shapes, strict=True)}


def occurrences_by_name(model: nn.Module) -> dict[str, Occurrence]:
    """Canonical name → occurrence; a tied parameter has several."""
    return {one.name: one for one in occurrences(nodes(as_module(model)))}


class Models(nn.Module):
    """Several models that train together, seen as one.

    A parameter has the name that it has in its own model; where an earlier model has that name too, the model's own
    stands before it: "model 2.weight" of a list, "critic.weight" of a dict.
    """

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._modules.update(models)

    def whose(self, params: Iterable[Any]) -> nn.Module:
        """The one of them that has all of the parameters, else all of them."""
        wanted = set(map(id, params))
        each = (one for one in self._modules.values() if one is not None)
        return next((one for one in each if wanted <= set(map(id, one.parameters()))), self)


ModelLike = nn.Module | Iterable[nn.Module] | Mapping[str, nn.Module] | None
"""How a model is given where parameters are to be named: one, several in a list or dict, or none."""


def one_model(given: Any) -> nn.Module | None:
    """The model in what a user gave, several as one; None for None and for an empty list.

    Raises:
        PlanError: something that is no module.
    """
    if given is None or isinstance(given, nn.Module):
        return given
    if isinstance(given, Mapping):
        models = {str(key): as_module(one) for key, one in given.items()}
    elif isinstance(given, Iterable) and not isinstance(given, str):
        models = {f"model {number}": as_module(one) for number, one in enumerate(given, start=1)}
    else:
        return as_module(given)
    return next(iter(models.values())) if len(models) == 1 else Models(models) if models else None


def as_module(model: Any) -> nn.Module:
    """The model as it is."""
    if not isinstance(model, nn.Module):
        raise PlanError(f"got a {type(model).__name__} where a model belongs.", fix="Give a torch.nn.Module.")
    return model


def parameters_by_name(model: nn.Module) -> dict[str, nn.Parameter]:
    """Canonical name → parameter; a tied parameter stands under all its names."""
    return {name: one.tensor for name, one in occurrences_by_name(model).items()}


def names_of(model: nn.Module) -> dict[int, str]:
    """`id(parameter)` → its first canonical name, in the order of `named_parameters`."""
    found: dict[int, str] = {}
    for one in occurrences(nodes(model)):
        found.setdefault(id(one.tensor), one.name)
    return found


def _above(node: Node, module: nn.Module) -> bool:
    """Whether the module is this node's own or stands above it: a cycle."""
    return node.module is module or (node.parent is not None and _above(node.parent, module))
