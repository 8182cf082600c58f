"""Every parameter of a model, read once: names, shape, role with evidence, and what the model asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from torchdecay.errors import PlanError
from torchdecay.plans import roles
from torchdecay.plans.names import Node, canonical_keys, nodes
from torchdecay.plans.parameters import Parameter
from torchdecay.plans.per_class import per_class
from torchdecay.plans.sharding import whole_shapes
from torchdecay.text import repr_quoted

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
        return _census_of_module(model)
    if isinstance(model, Mapping):
        return _census_of_tensors(model)
    raise PlanError(
        f"A plan needs a model, not {type(model).__module__}.{type(model).__qualname__}.",
        "Roles come from the modules that own the parameters.",
        "Pass the nn.Module, or a mapping from names to tensors.",
    )


def parameters_by_name(model: nn.Module) -> dict[str, nn.Parameter]:
    """Canonical name → parameter; a tied parameter stands under all its names.

    Args:
        model: any module, wrapped or not.
    """
    return {name: tensor for name, _, _, tensor in _occurrences(model)}


def names_of(model: nn.Module) -> dict[int, str]:
    """`id(parameter)` → its first canonical name, in the order of `named_parameters`."""
    found: dict[int, str] = {}
    for name, _, _, tensor in _occurrences(model):
        found.setdefault(id(tensor), name)
    return found


def _occurrences(model: nn.Module) -> Iterator[tuple[str, Node, str, nn.Parameter]]:
    """(canonical name, node, attribute, parameter), once for every name that a parameter has."""
    taken: dict[str, nn.Parameter] = {}
    for node in nodes(model):
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
            yield name, node, attribute, tensor


def _census_of_module(model: nn.Module) -> tuple[Parameter, ...]:
    whole = whole_shapes(model)
    first: dict[object, roles.Place] = {}
    tied: dict[object, list[roles.Place]] = {}
    for name, node, attribute, tensor in _occurrences(model):
        if is_lazy(tensor):
            raise PlanError(
                f"{repr_quoted(name)} is a lazy parameter that has no shape yet.",
                "Its role depends on its shape, and an optimizer could not hold it either.",
                "Run one batch through the model first, then make the plan.",
            )
        key = id(tensor)
        shape = whole.get(key) or tuple(tensor.shape)
        place = roles.place_at(name, node, attribute, tensor, shape)
        if first.setdefault(key, place) is not place:
            tied.setdefault(key, []).append(place)
    return tuple(_parameters(first, tied, exemptions(model)))


def _census_of_tensors(tensors: Mapping[str, Tensor]) -> tuple[Parameter, ...]:
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise PlanError(
                f"{repr_quoted(str(name))} of the checkpoint is a {type(tensor).__qualname__}, not a tensor.",
                "A plan reads names and tensors and nothing else.",
                'Pass the part that holds the weights: checkpoint["model"] or checkpoint["state_dict"], say.',
            )
        if tensor.is_floating_point() and name.rpartition(".")[2] not in BUFFERS:
            kept[name] = tensor
    short = canonical_keys(tensors)
    named = {short[name]: tensor for name, tensor in kept.items()}
    beside = {short[name]: tensor for name, tensor in tensors.items()}
    first: dict[object, roles.Place] = {}
    tied: dict[object, list[roles.Place]] = {}
    for place in roles.places_of(named, beside):
        key = _storage(place.tensor)
        if first.setdefault(key, place) is not place:
            tied.setdefault(key, []).append(place)
    return tuple(_parameters(first, tied, {}))


def _storage(tensor: Tensor) -> object:
    """What the names of a tied weight share in a state dict, where each has a tensor object of its own."""
    if tensor.is_meta or tensor.numel() == 0:
        return id(tensor)
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def _parameters(
    first: Mapping[object, roles.Place], tied: Mapping[object, list[roles.Place]], exempt: Mapping[str, str]
) -> Iterator[Parameter]:
    """A parameter for each tensor: its first place, and the further ones of a tensor that has several."""
    radial = _radial(list(first.values()))
    for (key, place), angle in zip(first.items(), radial, strict=True):
        role, kind, evidence = roles.decide(place)
        names: tuple[str, ...] = (place.name,)
        found: tuple[str, ...] = (role,)
        classes = _bases(type(place.owner)) if place.owner is not None else ()
        if key in tied:
            places = [place, *tied[key]]
            decisions = [(role, kind, evidence), *map(roles.decide, tied[key])]
            names = tuple(one.name for one in places)
            found = tuple(decision[0] for decision in decisions)
            classes = _classes(places)
            role, kind, evidence = roles.combine(names, decisions)
        tensor = place.tensor
        yield Parameter(
            names=names,
            shape=place.shape,
            dtype=str(tensor.dtype).removeprefix("torch."),
            role=role,
            roles=found,
            kind=kind,
            evidence=evidence,
            classes=classes,
            trainable=tensor.requires_grad if isinstance(tensor, nn.Parameter) else True,
            exempt=_said_of(names, exempt) or _tag(tensor),
            radial=angle,
        )


def _classes(places: list[roles.Place]) -> tuple[str, ...]:
    owners = dict.fromkeys(type(place.owner) for place in places if place.owner is not None)
    return tuple(dict.fromkeys(name for kind in owners for name in _bases(kind)))


@per_class
def _bases(kind: type) -> tuple[str, ...]:
    return tuple(f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__ if base is not object)


def _said_of(names: tuple[str, ...], exempt: Mapping[str, str]) -> str:
    return next((exempt[name] for name in names if name in exempt), "") if exempt else ""


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


def exemptions(model: nn.Module) -> dict[str, str]:
    """Canonical name → how a module asks for no decay: `no_weight_decay()` or `no_weight_decay_keywords()`.

    Both are read on every module of the tree, so wrappers don't hide them; names are relative to the module
    that says them, and a keyword counts wherever it occurs in a name, as where these methods come from.
    """
    speaking = [
        (node, method, words)
        for node in nodes(model)
        for method in _asking(type(node.module))
        if (words := _said(node, method))
    ]
    found: dict[str, str] = {}
    if not speaking:
        return found
    for name, at, attribute, _ in _occurrences(model):
        for node, method, words in speaking:
            if node.path and not name.startswith(f"{node.path}."):
                continue
            inside = name[len(node.path) + 1 :] if node.path else name
            raw = f"{at.raw}.{attribute}"[len(node.raw) + 1 if node.raw else 0 :]
            if method == "no_weight_decay":
                hit = not words.isdisjoint((inside, raw, name))
            else:
                hit = any(word in inside for word in words)
            if hit:
                found.setdefault(name, f"{method}()" + (f" of {node.path}" if node.path else ""))
    return found


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
                f"{type(node.module).__name__}.{method}() raised {type(error).__name__}: {error}",
                "It says which parameters must not decay, so that a plan without it would be wrong.",
                "Repair the method, or remove it and name those parameters in a rule.",
            ) from error
    if isinstance(asked, str):
        asked = (asked,)
    return frozenset(str(word) for word in asked or ())


def _radial(places: list[roles.Place]) -> list[float | None]:
    """|⟨w, g⟩| / (‖w‖ ‖g‖) of each tensor; None where no gradient is there or only a shard of one.

    A shard says nothing about the whole, and gathering it would need every process to ask at the same time. One
    transfer per device.
    """
    found: list[float | None] = [None] * len(places)
    pending: dict[torch.device, list[tuple[int, Tensor]]] = {}
    with torch.no_grad():
        for index, place in enumerate(places):
            tensor = place.tensor
            gradient = tensor.grad if tensor.is_leaf else None
            if gradient is None or gradient.layout is not torch.strided or tensor.is_meta or not tensor.numel():
                continue
            if hasattr(tensor, "full_tensor") or tuple(tensor.shape) != place.shape:
                continue
            w, g = _flat(tensor.detach()), _flat(gradient)
            cosine = torch.dot(w, g).abs() / (torch.linalg.vector_norm(w) * torch.linalg.vector_norm(g))
            pending.setdefault(cosine.device, []).append((index, cosine))
    for entries in pending.values():
        values = torch.stack([cosine.double() for _, cosine in entries]).tolist()
        for (index, _), value in zip(entries, values, strict=True):
            found[index] = value if math.isfinite(value) else None
    return found


def _flat(tensor: Tensor) -> Tensor:
    """The elements as a vector of real numbers, in a precision that a sum over them survives."""
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return (real if real.dtype in (torch.float32, torch.float64) else real.float()).flatten()
