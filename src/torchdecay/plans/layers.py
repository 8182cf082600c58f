"""Learning rates by depth: rules that set options and leave open who decays."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, cast

from torch import nn

from torchdecay.arguments import check_number, check_word
from torchdecay.errors import PlanError
from torchdecay.plans.parameters import Parameter
from torchdecay.plans.rules import UNSAID, Rule
from torchdecay.plans.selectors import Selector
from torchdecay.plans.tree import as_module, occurrences_by_name

Layers = Literal["timm", "beit", "detectron2"] | Callable[[str], int] | None
_PREVIOUS = 99999.0
"""In a timm matcher: this belongs to the group before."""


@dataclass(frozen=True)
class OfLayers(Selector):
    """What stands in layers of one learning rate."""

    layers: tuple[int, ...]
    names: frozenset[str]

    def picks(self, parameter: Parameter) -> bool:  # noqa: D102
        return parameter.name in self.names

    def __repr__(self) -> str:
        first, last = self.layers[0], self.layers[-1]
        return f"layer {first}" if first == last else f"layers {first} to {last}"


def layerwise(
    model: nn.Module, decay: float = 0.75, *, lr: float | None = None, layers: Layers = None, min_scale: float = 0.0
) -> tuple[Rule, ...]:
    r"""Rules for learning rates that fall from the head to the stem, to be put before those that say who decays.

    With layers 0 (the stem) to N (the head), layer i has the learning rate η·max(min_scale, decayᴺ⁻ⁱ). The rules have
    options only, so that every parameter keeps the weight decay that the other rules give it; layers with equal rates
    and equal decay share a group. A decoupled weight decay removes η·λ in a step, so that lower layers also decay more
    slowly.

    Args:
        model: the model.
        decay: the factor from each layer to the one below, above 0 and at most 1.
        lr: the rate of the head, η; the groups then have the key "lr". Without it they have "lr_scale", which timm's
            and BEiT's own schedules multiply in, and torch's do not.
        layers: who is in which layer. "timm": as the model's `group_matcher` says; "beit": position embeddings, tokens
            and patches are 0, blocks.i is i + 1, all the rest the last; "detectron2": the same inside `backbone`, with
            tokens in the last layer; or a function from a parameter's name to its layer. By default "timm" where the
            model has a matcher; else the longest row of blocks is found, i + 1 each, what is defined before them is 0
            and what comes after them the last.
        min_scale: a floor for the factor, from 0 to 1.

    Returns:
        One rule for each learning rate, lowest layer first.

    Raises:
        PlanError: no row of blocks is found, or `layers` does not fit the model.

    Example:
        >>> import torch, torchdecay as td
        >>> blocks = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(2)))
        >>> ends = {"stem": torch.nn.Linear(3, 4), "blocks": blocks, "head": torch.nn.Linear(4, 2)}
        >>> model = torch.nn.ModuleDict(ends)
        >>> groups = td.param_groups(model, 0.1, rules=[*td.layerwise(model, 0.5, lr=1e-3), *td.STANDARD])
        >>> [(group["lr"], group["weight_decay"]) for group in groups[:4]]
        [(0.000125, 0.1), (0.000125, 0.0), (0.00025, 0.1), (0.00025, 0.0)]

    Reference: BEiT, arXiv 2106.08254; param_groups_layer_decay of timm, 2022 to 2026; get_vit_lr_decay_rate of
    detectron2, arXiv 2203.16527.
    """
    check_number(decay, "layerwise decay", open_minimum=True, maximum=1.0, error=PlanError)
    check_number(min_scale, "layerwise min_scale", maximum=1.0, error=PlanError)
    if lr is not None:
        check_number(lr, "layerwise lr", error=PlanError)
    depth = _layers_of(as_module(model), layers)
    top = max(depth.values())
    by_scale: dict[float, list[str]] = {}
    for name, layer in sorted(depth.items(), key=lambda item: item[1]):
        by_scale.setdefault(max(min_scale, decay ** (top - layer)), []).append(name)
    rules = []
    for scale, names in by_scale.items():
        selector = OfLayers(tuple(sorted({depth[name] for name in names})), frozenset(names))
        option: tuple[str, Any] = ("lr_scale", scale) if lr is None else ("lr", lr * scale)
        rules.append(Rule(selector, UNSAID, optional=True, options=(option,), label="learning rate by depth"))
    return tuple(rules)


def _layers_of(model: nn.Module, layers: Layers) -> dict[str, int]:
    """Name → layer, from 0."""
    named = {name: one.raw for name, one in occurrences_by_name(model).items()}
    if not named:
        raise PlanError("layerwise(): the model has no parameters.")
    if callable(layers):
        return {name: _whole(layers(name), name) for name in named}
    if layers is not None:
        check_word(layers, "layers", ("timm", "beit", "detectron2"), error=PlanError)
    matcher = getattr(model, "group_matcher", None)
    if layers == "timm" or (layers is None and callable(matcher)):
        if not callable(matcher):
            raise PlanError(
                f"layerwise(): {type(model).__name__} has no group_matcher, which timm's rule goes by.",
                fix='Leave layers out, or say "beit", or a function from a name to a layer.',
            )
        return _matched(named, matcher(coarse=False))
    if layers == "beit":
        return _by_blocks(named, r"blocks\.(\d+)", r"(cls_token|mask_token|pos_embed)$|patch_embed", r"rel_pos_bias")
    if layers == "detectron2":
        inside = r"backbone(?!.*\.residual\.).*?\.blocks\.(\d+)"
        return _by_blocks(named, inside, r"backbone.*\.(pos_embed|patch_embed)", r"(?!)")
    return _in_order(named, model)


def _whole(layer: object, name: str) -> int:
    if isinstance(layer, int) and layer >= 0:
        return layer
    raise PlanError(
        f'layerwise(): layers("{name}") gave {layer!r}.', "A layer is a number from 0, the stem, to the head."
    )


def _by_blocks(named: Iterable[str], block: str, stem: str, rest: str) -> dict[str, int]:
    """Layers from names: the stem is 0, block i is i + 1, what is left the last."""
    numbers = {name: int(found[1]) + 1 for name in named if (found := re.match(block, name))}
    if not numbers:
        raise PlanError(
            "layerwise(): no parameter is named as a block there.",
            fix="Leave layers out, or give a function from a name to a layer.",
        )
    last = max(numbers.values()) + 1
    below = {name for name in named if re.match(stem, name) and not re.match(rest, name)}
    return {name: numbers.get(name, 0 if name in below else last) for name in named}


def _matched(named: Mapping[str, str], matcher: Any) -> dict[str, int]:
    """Layers as timm reads a model's matcher: patterns in their order, groups sorted, and numbered without gaps."""
    specs = [
        (re.compile(pattern), (float(place),), suffix)
        for place, spec in enumerate(cast("Mapping[str, Any]", matcher).values())
        if spec is not None
        for pattern, suffix in (spec if isinstance(spec, (list, tuple)) else [(spec, None)])
    ]

    def place_of(raw: str) -> tuple[float, ...]:
        for pattern, prefix, suffix in specs:
            if found := pattern.match(raw):
                return tuple(map(float, chain(prefix, filter(None, found.groups()), suffix or ())))
        return (float("inf"),)

    places = {name: place_of(raw) for name, raw in named.items()}
    numbers: dict[tuple[float, ...], int] = {}
    for place in sorted(set(places.values())):
        numbers[place] = max(numbers.values(), default=-1) + (place[-1] != _PREVIOUS or not numbers)
    return {name: numbers[place] for name, place in places.items()}


def _in_order(named: Mapping[str, str], model: nn.Module) -> dict[str, int]:
    """Layers from the longest row of blocks of one class; before it is the stem, behind it the head."""
    rows = {
        path: list(module._modules)
        for path, module in model.named_modules()
        if len(module._modules) > 1 and all(key.isdigit() for key in module._modules) and _alike(module)
    }
    sizes = {path: sum(raw.startswith(f"{path}." if path else "") for raw in named.values()) for path in rows}
    if not any(sizes.values()):
        raise PlanError(
            f"layerwise(): {type(model).__name__} has no row of blocks of one class.",
            fix="Give layers, a function from a parameter's name to its layer: 0 is the stem.",
        )
    chosen = max(sizes, key=lambda path: sizes[path])
    if any(2 * size > sizes[chosen] for path, size in sizes.items() if _apart(path, chosen)):
        raise PlanError(
            f"layerwise(): {type(model).__name__} has several rows of blocks, so that its depth is not plain.",
            fix="Give layers, a function from a parameter's name to its layer: 0 is the stem.",
        )
    prefix = f"{chosen}." if chosen else ""
    last, layer, found = len(rows[chosen]) + 1, 0, {}
    for name, raw in named.items():
        inside = raw.startswith(prefix)
        if inside:
            layer = rows[chosen].index(raw[len(prefix) :].partition(".")[0]) + 1
        found[name] = layer if inside else last if layer else 0
    return found


def _apart(one: str, other: str) -> bool:
    return one != other and not f"{one}.".startswith(f"{other}.") and not f"{other}.".startswith(f"{one}.")


def _alike(module: nn.Module) -> bool:
    """Whether most children are of one class, so that it is a row of blocks."""
    kinds: Sequence[tuple[type, int]] = Counter(type(one) for one in module._modules.values()).most_common(1)
    return 2 * kinds[0][1] > len(module._modules)
