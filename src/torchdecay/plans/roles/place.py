"""What a witness looks at: one parameter at one place, seen through containers and parametrizations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from torchdecay.plans.roles import usage
from torchdecay.plans.roles.words import words
from torchdecay.plans.tree import Node, Occurrence


class Verdict(NamedTuple):
    """What a witness says: the role, the kind of weight, and one sentence of evidence."""

    role: str
    kind: str
    evidence: str


class Place(NamedTuple):
    """One parameter at one place.

    Attributes:
        name: canonical name.
        tensor: the parameter, or a checkpoint's tensor.
        shape: sizes, those of the whole where the tensor is a shard.
        attribute: what its owner calls it: "weight"; for an entry of a ParameterList the name of the list; for a
            parametrized tensor the name of that tensor.
        part: which tensor of a parametrization it is: "length" and "direction" of a weight norm, else
            torch's name ("original", "original0"); "" for a plain parameter.
        through: class names of the parametrizations between it and the tensor that the layer uses.
        node: where the owner stands; None for a checkpoint of tensors.
        segments: the names of the modules above, outermost first.
        siblings: the tensors that stand beside it, itself included, by attribute.
        entry: where it is one of a ParameterDict, how the source reaches it: "factors.up".
        uses: how the source of the modules at hand uses it: words of `usage`; empty until it is looked up.
    """

    name: str
    tensor: Tensor
    shape: tuple[int, ...]
    attribute: str
    part: str
    through: tuple[str, ...]
    node: Node | None
    segments: tuple[str, ...]
    siblings: Mapping[str, Tensor | None]
    entry: str = ""
    uses: frozenset[str] = usage.NO_USE

    @property
    def owner(self) -> nn.Module | None:
        """The module that owns it; None for a checkpoint of tensors."""
        return self.node.module if self.node is not None else None

    @property
    def owner_class(self) -> str:
        """The bare class name of the owner, that before scripting for a scripted one; "" without an owner."""
        if self.node is None:
            return ""
        if isinstance(self.node.module, torch.jit.ScriptModule):
            return str(self.node.module.original_name)
        return type(self.node.module).__name__

    @property
    def segment(self) -> str:
        """The name of the owner, numbers skipped: "norm" for "layers.norm.0"."""
        return next((name for name in reversed(self.segments) if words(name)), "")

    @property
    def vector(self) -> bool:
        """Whether at most one of its sizes exceeds one: (C,), (C, 1, 1), (1, 1, E), ()."""
        return sum(size > 1 for size in self.shape) <= 1

    @property
    def single(self) -> bool:
        """Whether it holds one number."""
        return all(size == 1 for size in self.shape)

    @property
    def contracted(self) -> bool:
        """Whether it is multiplied with what comes in and summed over an axis of its own: a dot product."""
        if "summed" in self.uses and not self.vector:
            return True
        axes = [int(use[4:]) for use in self.uses if use.startswith("dot ")]
        return any(-axis <= len(self.shape) and self.shape[axis] > 1 for axis in axes)

    @property
    def mapping(self) -> bool:
        """Whether the source shows it at work as a linear map."""
        return bool({"matmul", "conv"} & self.uses) or self.contracted

    def looked_up(self) -> Place:
        """The same with its uses."""
        if self.node is None:
            return self
        uses = usage.at(self.node, self.attribute)
        return self._replace(uses=uses | usage.at(self.node, self.entry) if self.entry else uses)

    def uses_of(self, attribute: str) -> frozenset[str]:
        """How the owner's source uses another of its attributes."""
        return usage.NO_USE if self.node is None else usage.of(self.node.module).of(attribute)

    def __str__(self) -> str:
        return f"`{self.attribute}` of {self.owner_class}" if self.owner_class else f"`{self.name}`"


def place_at(found: Occurrence) -> Place:
    """The place of a parameter that a module of the tree holds, seen through containers and parametrizations."""
    name, node, attribute, tensor, shape = found
    part = ""
    through: tuple[str, ...] = ()
    if isinstance(node.module, ParametrizationList) and node.parent and node.parent.parent:
        through = tuple(type(step).__name__ for step in node.module)
        part = _WEIGHT_NORM_PARTS.get(attribute, attribute) if "_WeightNorm" in through else attribute
        attribute = node.segment
        node = node.parent.parent
    elif node.module._forward_pre_hooks:
        attribute, part, through = _behind_hooks(node.module, attribute)
    entry = f"{node.segment}.{attribute}" if isinstance(node.module, nn.ParameterDict) and node.parent else ""
    while isinstance(node.module, (nn.ParameterList, nn.ParameterDict)) and node.parent:
        attribute = node.segment
        node = node.parent
    return Place(name, tensor, shape, attribute, part, through, node, node.segments, node.module._parameters, entry)


_WEIGHT_NORM_PARTS = {"original0": "length", "original1": "direction"}


def _behind_hooks(module: nn.Module, attribute: str) -> tuple[str, str, tuple[str, ...]]:
    """(attribute, part, through) behind the hook of an old-style weight norm, spectral norm or pruning."""
    for hook in module._forward_pre_hooks.values():
        kind = type(hook).__name__
        name = getattr(hook, "name", None) or getattr(hook, "_tensor_name", None)
        if kind == "WeightNorm" and attribute in (f"{name}_g", f"{name}_v"):
            return str(name), "length" if attribute.endswith("_g") else "direction", (kind,)
        if isinstance(name, str) and attribute == f"{name}_orig":
            return name, "original", (kind,)
    return attribute, "", ()


def places_of(tensors: Mapping[str, Tensor], beside: Mapping[str, Tensor]) -> list[Place]:
    """The places of a checkpoint's parameters, by canonical name; `beside` holds its buffers too."""
    siblings: dict[str, dict[str, Tensor | None]] = {}
    for name, tensor in beside.items():
        parent, _, attribute = name.rpartition(".")
        siblings.setdefault(parent, {})[attribute] = tensor
    return [_place_of(name, tensor, siblings[name.rpartition(".")[0]]) for name, tensor in tensors.items()]


def _place_of(name: str, tensor: Tensor, siblings: Mapping[str, Tensor | None]) -> Place:
    parent, _, attribute = name.rpartition(".")
    segments = tuple(parent.split(".")) if parent else ()
    part = ""
    if attribute.endswith(("_g", "_v")) and {f"{attribute[:-2]}_g", f"{attribute[:-2]}_v"} <= siblings.keys():
        part = "length" if attribute.endswith("_g") else "direction"
        attribute = attribute[:-2]
    elif len(segments) >= 2 and segments[-2] == "parametrizations":
        part, attribute, segments = attribute, segments[-1], segments[:-2]
    return Place(name, tensor, tuple(tensor.shape), attribute, part, (), None, segments, siblings)
