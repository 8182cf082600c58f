"""Every parameter of a model, read once: names, shape, role with evidence, and what the model asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from torchdecay.errors import PlanError
from torchdecay.plans.names import canonical_keys, per_class
from torchdecay.plans.parameters import KINDS, ROLES, WEIGHTS, Parameter
from torchdecay.plans.roles.place import Place, place_at, places_of
from torchdecay.plans.roles.reading import read
from torchdecay.plans.tree import Node, Occurrence, nodes, occurrences
from torchdecay.text import describe_error, dtype_name, repr_quoted

BUFFERS = frozenset({"running_mean", "running_var", "num_batches_tracked", "inv_freq", "n_averaged"})
"""Names in a checkpoint that torch and its users keep for buffers."""

NO_DECAY_TAGS = ("_no_weight_decay", "no_weight_decay", "_no_reinit")


def census(model: nn.Module | Mapping[str, Tensor]) -> tuple[Parameter, ...]:
    """Read a model's parameters, trainable and frozen, each distinct tensor once.

    Wrappers are seen through (torch.compile, DDP, FSDP, checkpoint wrappers, AveragedModel, PEFT); a tied
    tensor has all its names, the first one as in `named_parameters`. No code of the model runs but its
    `no_weight_decay()` and `no_weight_decay_keywords()`.

    Args:
        model: a module, on any device, meta included; or name → tensor, a checkpoint: then roles come from
            names and shapes only, and more of them are "unknown".

    Returns:
        One `Parameter` per tensor, in the order of `named_parameters`.

    Raises:
        PlanError: for what is neither, and for a lazy model that has not seen a batch yet.

    Example:
        >>> from torch import nn
        >>> [(p.name, p.role) for p in census(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))]
        [('0.weight', 'weight'), ('0.bias', 'bias'), ('1.weight', 'norm'), ('1.bias', 'norm')]
    """
    if isinstance(model, nn.Module):
        uses = _of_module(model)
    elif isinstance(model, Mapping):
        uses = _of_tensors(model)
    else:
        raise PlanError(
            f"A plan needs a model, not {type(model).__module__}.{type(model).__qualname__}.",
            "Roles come from the modules that own the parameters.",
            "Pass the nn.Module, or a mapping from names to tensors.",
        )
    found: dict[object, Parameter] = {}
    tied: dict[object, list[Parameter]] = {}
    for key, use in uses:
        if found.setdefault(key, use) is not use:
            tied.setdefault(key, []).append(use)
    return tuple(_tied(first, [first, *tied[key]]) if key in tied else first for key, first in found.items())


def _of_module(model: nn.Module) -> Iterator[tuple[object, Parameter]]:
    """Every use of a parameter, after what tells tensors apart."""
    speakers: list[_Speaker] = []
    for one in occurrences(_heard(nodes(model), speakers)):
        if is_lazy(one.tensor):
            raise PlanError(
                f"{repr_quoted(one.name)} is a lazy parameter that has no shape yet.",
                "Its role depends on its shape, and an optimizer could not hold it either.",
                "Run one batch through the model first, then make the plan.",
            )
        _refuse_nested(one.name, one.tensor)
        yield id(one.tensor), _parameter(place_at(one), _exempt(one, speakers) if speakers else "")


def _of_tensors(tensors: Mapping[str, Tensor]) -> Iterator[tuple[object, Parameter]]:
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise PlanError(
                f"{repr_quoted(str(name))} of the checkpoint is a {type(tensor).__qualname__}, not a tensor.",
                "A plan reads names and tensors and nothing else.",
                'Pass the part that holds the weights: checkpoint["model"] or checkpoint["state_dict"], say.',
            )
        _refuse_nested(name, tensor)
    short = canonical_keys(tensors)
    beside = {short[name]: tensor for name, tensor in tensors.items()}
    named = {
        short[name]: tensor
        for name, tensor in tensors.items()
        if (tensor.is_floating_point() or tensor.is_complex()) and name.rpartition(".")[2] not in BUFFERS
    }
    for place in places_of(named, beside):
        yield _storage(place.tensor), _parameter(place)


def _refuse_nested(name: str, tensor: Tensor) -> None:
    if tensor.is_nested:
        raise PlanError(
            f"{repr_quoted(name)} is a nested tensor.",
            "Its parts have lengths of their own, so that it has no shape, and optimizers can't step it.",
            "Keep its parts as parameters: torch.nn.ParameterList(parts).",
        )


def _storage(tensor: Tensor) -> object:
    """What the names of a tied weight share in a state dict, where each has a tensor object of its own."""
    if tensor.is_meta or tensor.layout is not torch.strided or tensor.numel() == 0:
        return id(tensor)
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def _parameter(place: Place, exempt: str = "") -> Parameter:
    """A parameter as one place shows it."""
    role, kind, evidence = read(place)
    tensor = place.tensor
    return Parameter(
        names=(place.name,),
        shape=place.shape,
        dtype=dtype_name(tensor.dtype),
        role=role,
        roles=(role,),
        kind=kind,
        evidence=evidence,
        classes=_bases(type(place.node.module)) if place.node is not None else (),
        trainable=tensor.requires_grad if place.node or isinstance(tensor, nn.Parameter) else True,
        exempt=exempt or _tag(tensor),
        tensor=tensor,
    )


def _tied(first: Parameter, uses: Sequence[Parameter]) -> Parameter:
    """One parameter from its uses: the most spared role wins, whatever the order of the names."""
    role = min((use.role for use in uses), key=ROLES.index)
    same = [use for use in uses if use.role == role]
    evidence = dict.fromkeys(line for use in same for line in use.evidence)
    if len(same) < len(uses):
        evidence["tied: " + ", ".join(f"{use.name} ({use.role})" for use in uses)] = None
    return dataclasses.replace(
        first,
        names=tuple(use.name for use in uses),
        role=role,
        roles=tuple(use.role for use in uses),
        kind=max((use.kind for use in same), key=KINDS.index) if role in WEIGHTS else "",
        evidence=tuple(evidence),
        classes=tuple(dict.fromkeys(name for use in uses for name in use.classes)),
        exempt=next((use.exempt for use in uses if use.exempt), ""),
    )


@per_class
def _bases(kind: type) -> tuple[str, ...]:
    return tuple(f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__ if base is not object)


def _tag(tensor: Tensor) -> str:
    """The tag by which a model's author asks for no decay; tags are attributes of the tensor object itself."""
    tags = vars(tensor)
    if not tags:
        return ""
    named = next((tag for tag in NO_DECAY_TAGS if tags.get(tag) is True), "")
    options = tags.get("_optim")
    if not named and isinstance(options, Mapping) and options.get("weight_decay") == 0:
        named = "_optim"
    return named and f"tag {named}"


class _Speaker(NamedTuple):
    """A module that asks for no decay of what it names; names are relative to it."""

    node: Node
    method: str
    words: frozenset[str]


def _heard(tree: Iterable[Node], speakers: list[_Speaker]) -> Iterator[Node]:
    """The nodes, after those that ask for no decay are noted: `no_weight_decay()` and `no_weight_decay_keywords()`.

    Both are read on every module, so that wrappers don't hide them, and always before the parameters below.
    """
    for node in tree:
        for method in _asking(type(node.module)):
            if words := _said(node, method):
                speakers.append(_Speaker(node, method, words))
        yield node


def _exempt(one: Occurrence, speakers: Iterable[_Speaker]) -> str:
    """How a module asks for no decay of this parameter; a keyword counts wherever it occurs, as where it comes from."""
    for node, method, words in speakers:
        if node.raw and not one.raw.startswith(f"{node.raw}."):
            continue
        inside = one.name[len(node.path) + 1 :] if node.path else one.name
        raw = one.raw[len(node.raw) + 1 if node.raw else 0 :]
        by_name = method == "no_weight_decay"
        if not words.isdisjoint((inside, raw, one.name)) if by_name else any(word in inside for word in words):
            return f"{method}()" + (f" of {node.path}" if node.path else "")
    return ""


@per_class
def _asking(kind: type) -> tuple[str, ...]:
    """Which of the two methods a module class has itself; a wrapper only forwards them."""
    return tuple(method for method in ("no_weight_decay", "no_weight_decay_keywords") if hasattr(kind, method))


def _said(node: Node, method: str) -> frozenset[str]:
    """The words that a module's own `method` returns."""
    asked = getattr(node.module, method)
    if callable(asked):
        try:
            asked = asked()
        except Exception as error:
            raise PlanError(
                f"{type(node.module).__name__}.{method}() raised {describe_error(error)}",
                "It says which parameters must not decay, so that a plan without it would be wrong.",
                "Repair the method, or remove it and name those parameters in a rule.",
            ) from error
    if isinstance(asked, str):
        asked = (asked,)
    return frozenset(str(word) for word in asked or ())
