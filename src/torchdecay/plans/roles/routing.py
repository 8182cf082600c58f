"""Weights that decide who works: routers, which send tokens to experts, and gates, which let values through."""

from __future__ import annotations

from functools import lru_cache

from torchdecay.plans.roles.place import Place
from torchdecay.plans.roles.words import word_set, words

ROUTERS = word_set("router routers")
GATES = word_set("gate gates gating")
EXPERTS = word_set("expert experts")
MIXTURES = word_set("moe mixture switch top topk") | EXPERTS
HALVES = word_set("up down value val w1 w2 fc fc1 fc2")
"""What stands beside a gate that is one half of a gated feedforward layer, and as wide as the other."""


def routed(place: Place) -> str:
    """What sort of weight it is, "router", "gate" or "weight", by its name, its class and those around it."""
    around, names = _around(place), place.segments[-2:]
    if not _hints(place.attribute, around, names):
        return "weight"
    names = (place.attribute, *around[:1], *names)
    if _is_expert(place.attribute) or _is_expert(place.segment):
        return "weight"
    # The matrices of a router's class are its own, whatever they are called.
    if any(_has(ROUTERS, name) for name in names) or any(map(_is_router_class, around)):
        return "router"
    named = place.attribute if _is_gate(place.attribute) else place.segment
    if not _is_gate(named):
        return "weight"
    beside = set(place.siblings)
    if place.node is not None and place.node.parent is not None:
        beside |= place.node.parent.module._modules.keys()
    if _has(EXPERTS, named):
        return "gate"
    if any(_has(EXPERTS, name) for name in beside) or any(_has(MIXTURES, name) for name in around):
        return "router"
    return "weight" if any(_has(HALVES, name) or name in HALVES for name in beside) else "gate"


def _around(place: Place) -> tuple[str, ...]:
    """The class of the owner, and of the module above."""
    node = place.node
    if node is None:
        return ()
    above = type(node.parent.module).__name__ if node.parent is not None else ""
    return type(node.module).__name__, above


@lru_cache(maxsize=1 << 16)
def _hints(attribute: str, around: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    """Whether any name around speaks of routers or gates; most do not."""
    return any(_has(ROUTERS | GATES, name) for name in (attribute, *around, *segments))


@lru_cache(maxsize=1 << 12)
def _is_router_class(name: str) -> bool:
    found = words(name)
    return bool(found) and (found[-1] in ROUTERS or (found[-1] in GATES and bool(MIXTURES & set(found))))


@lru_cache(maxsize=1 << 16)
def _is_gate(name: str) -> bool:
    """Whether a name is that of a gate: its last word, numbers and "weight" left out."""
    found = [word for word in words(name) if word not in ("weight", "weights", "linear", "fc", "layer")]
    return bool(found) and found[-1] in GATES


@lru_cache(maxsize=1 << 16)
def _is_expert(name: str) -> bool:
    return words(name)[-1:] in (("expert",), ("experts",))


@lru_cache(maxsize=1 << 16)
def _has(known: frozenset[str], name: str) -> bool:
    return bool(known & set(words(name)))
