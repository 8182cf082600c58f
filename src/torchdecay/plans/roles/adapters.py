"""Adapters: LoRA, DoRA and their like, and what they make of the weights around them."""

from __future__ import annotations

import re
from functools import lru_cache

from torchdecay.plans.names import per_class
from torchdecay.plans.roles.named import BIAS_WORDS, SCALE_WORDS, named_for_norm
from torchdecay.plans.roles.place import Place, Verdict
from torchdecay.plans.roles.torch_modules import torch_norm
from torchdecay.plans.roles.words import among, last, word_set, words

ADAPTER_SCALES = SCALE_WORDS | word_set("l s e sigma magnitude")
LORA = re.compile(r"lora(_embedding)?_[aAbBE]|lora_(up|down)")


def refined_kind(place: Place, kind: str) -> str:
    """The kind of a weight in the light of what stands above it: adapter and expert say more than matrix."""
    above = {_kind_of_name(name) for name in (*place.segments, place.owner_class) if not name.isdigit()}
    if "adapter" in above or _kind_of_name(place.attribute) == "adapter" or in_peft_layer(place):
        return "adapter"
    if "named adapter" in above and len(place.shape) == 2:
        return "adapter"
    if "expert" in above:
        return "expert"
    found = words(place.attribute)
    hidden_to_hidden = "hh" in found or (found[:1] == ("recurrent",) and found[1:] in (("kernel",), ("weight",)))
    return "recurrent" if hidden_to_hidden else kind


@lru_cache(maxsize=1 << 16)
def _kind_of_name(name: str) -> str:
    if LORA.fullmatch(name):
        return "adapter"
    found = words(name)
    if found and found[-1] in ("expert", "experts") and "shared" not in found:
        return "expert"
    return "named adapter" if {"adapter", "adapters"} & set(found) else ""


def in_peft_layer(place: Place) -> str:
    """The name under which a PEFT layer holds this parameter as its adapter, or an empty string."""
    node, below = place.node, place.attribute
    while node is not None:
        if below in _adapter_names(type(node.module)):
            return below
        below, node = node.segment, node.parent
    return ""


@per_class
def _adapter_names(kind: type) -> tuple[str, ...]:
    """The attributes in which a layer class of PEFT holds its adapters; none for other classes."""
    layer = any(base.__name__ == "BaseTunerLayer" for base in kind.__mro__)
    return tuple(getattr(kind, "adapter_layer_names", ())) if layer else ()


def adapter(place: Place) -> Verdict | None:
    """A plain parameter of a low-rank adapter: its matrices are weights, DoRA's and IA3's vectors scales."""
    if len(place.shape) > 1 and "adapter" in map(_kind_of_name, (*place.segments, place.attribute)):
        return Verdict("weight", "adapter", f"{place} is named as a LoRA matrix")
    held = in_peft_layer(place)
    if "lora_magnitude_vector" in place.segments:
        return Verdict("scale", "", "the length of each row in DoRA")
    if not held or last(held) in BIAS_WORDS:
        return None
    if "tokens" in words(held):
        return Verdict("embedding", "", f"rows that PEFT trains beside an embedding ({held})")
    flat = place.mapping or last(held) in ("weight", "spectrum")
    if not place.vector or flat or (len(place.shape) > 1 and last(held) in ("a", "b")):
        return Verdict("weight", "adapter", f"{place} belongs to a PEFT adapter ({held})")
    if _wraps_norm(place):
        return Verdict("norm", "", f"a copy of the normalization that a PEFT layer wraps ({held})")
    if among(ADAPTER_SCALES, held):
        return Verdict("scale", "", f"a vector that a PEFT adapter multiplies by ({held})")
    return Verdict("unknown", "", f"a vector of a PEFT adapter ({held}) of which nothing more is known")


def _wraps_norm(place: Place) -> bool:
    """Whether the PEFT layer that holds this wraps a normalization, of which it then trains copies."""
    node = place.node
    while node is not None and not _adapter_names(type(node.module)):
        node = node.parent
    wrapped = node.module._modules.get("base_layer") if node is not None else None
    return wrapped is not None and (torch_norm(type(wrapped)) or named_for_norm(type(wrapped).__name__))
