"""What the parameters of torch.nn's own modules are for: known exactly, for subclasses too."""

from __future__ import annotations

import re

from torch import nn

from torchdecay.plans.names import per_class
from torchdecay.plans.roles.place import Place, Verdict
from torchdecay.plans.roles.words import among, word_set

_CONV = {"weight": ("weight", "kernel"), "bias": ("bias", "")}
_NORM = {"weight": ("norm", ""), "bias": ("norm", "")}
_RECURRENT = {
    "weight_ih": ("weight", "matrix"),
    "weight_hh": ("weight", "recurrent"),
    "weight_hr": ("weight", "recurrent"),
    "bias_ih": ("bias", ""),
    "bias_hh": ("bias", ""),
}
KNOWN: dict[str, dict[str, tuple[str, str]]] = {
    "torch.nn.modules.linear.Linear": {"weight": ("weight", "matrix"), "bias": ("bias", "")},
    "torch.nn.modules.linear.Bilinear": {"weight": ("weight", "matrix"), "bias": ("bias", "")},
    "torch.nn.modules.conv._ConvNd": _CONV,
    "torch.nn.modules.batchnorm._NormBase": _NORM,
    "torch.nn.modules.normalization.LayerNorm": _NORM,
    "torch.nn.modules.normalization.GroupNorm": _NORM,
    "torch.nn.modules.normalization.RMSNorm": _NORM,
    "torch.nn.modules.sparse.Embedding": {"weight": ("embedding", "")},
    "torch.nn.modules.sparse.EmbeddingBag": {"weight": ("embedding", "")},
    "torch.nn.modules.rnn.RNNBase": _RECURRENT,
    "torch.nn.modules.rnn.RNNCellBase": _RECURRENT,
    "torch.nn.modules.activation.PReLU": {"weight": ("scale", "")},
    "torch.nn.modules.activation.MultiheadAttention": {
        "in_proj_weight": ("weight", "matrix"),
        "q_proj_weight": ("weight", "matrix"),
        "k_proj_weight": ("weight", "matrix"),
        "v_proj_weight": ("weight", "matrix"),
        "in_proj_bias": ("bias", ""),
        "bias_k": ("bias", ""),
        "bias_v": ("bias", ""),
    },
}
"""Qualified class name → attribute → (role, kind). A norm's bias is of role norm too: it belongs to the norm."""

POSITION_WORDS = word_set("position positions positional pos relative rel distance wpe")
INPUT_WORDS = word_set("token tokens word words input inputs type segment vocab")
VIRTUAL_TOKEN_CLASSES = word_set("PromptEmbedding PromptEncoder PrefixEncoder MultitaskPromptEmbedding CPTEmbedding")
_LAYER_SUFFIX = re.compile(r"_l\d+(_reverse)?$")


def torch_module(place: Place) -> Verdict | None:
    """The owner is a module of torch.nn, or a subclass of one that keeps its parameters."""
    if place.node is None:
        return None
    known = _known_of(type(place.node.module))
    verdict = known.get(place.attribute) or known.get(_LAYER_SUFFIX.sub("", place.attribute))
    return _embedding(place, verdict) if verdict is not None and verdict.role == "embedding" else verdict


def parametrization(place: Place) -> Verdict | None:
    """What does not stand for one tensor: a weight norm's length, a part of a sum, FSDP1's flat parameter."""
    if place.attribute == "_flat_param":
        return Verdict("unknown", "", "several parameters flattened by FSDP1: give it use_orig_params=True")
    if place.part == "length":
        return Verdict("scale", "", f"the length g in a weight norm of `{place.attribute}`")
    if place.part in ("", "direction", "original"):
        return None
    several = ", ".join(place.through) or "a parametrization"
    return Verdict("unknown", "", f"one of several tensors that {several} makes `{place.attribute}` from")


@per_class
def _known_of(kind: type) -> dict[str, Verdict]:
    """Attribute → verdict for a module class; the nearest base that knows the attribute wins."""
    found: dict[str, Verdict] = {}
    for base in kind.__mro__:
        for attribute, (role, sort) in KNOWN.get(f"{base.__module__}.{base.__qualname__}", {}).items():
            found.setdefault(attribute, Verdict(role, sort, f"{attribute} of {_shown(kind, base)}"))
    return found


def _shown(kind: type, base: type) -> str:
    """The class for people: "nn.Linear", or "MyLinear, an nn.Linear" for a subclass."""
    public = next((step for step in kind.__mro__ if getattr(nn, step.__name__, None) is step), base)
    return (
        f"nn.{public.__name__}" if public.__module__ == kind.__module__ else f"{kind.__name__}, an nn.{public.__name__}"
    )


def _embedding(place: Place, verdict: Verdict) -> Verdict:
    """An embedding, or what an nn.Embedding is used for besides: positions, virtual tokens."""
    above = place.node.parent if place.node else None
    holder = type(above.module).__name__ if above is not None else ""
    if holder in VIRTUAL_TOKEN_CLASSES:
        return Verdict("token", "", f"{verdict.evidence} inside PEFT's {holder}: virtual tokens")
    word = among(POSITION_WORDS, place.segment, place.owner_class)
    if not word and not among(INPUT_WORDS, place.segment, holder):
        word = among(POSITION_WORDS, holder)
    return Verdict("position", "", f"{verdict.evidence} named for positions (“{word}”)") if word else verdict
