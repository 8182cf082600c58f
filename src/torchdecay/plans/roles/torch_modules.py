"""What the parameters of torch.nn's own modules are for: known exactly, for subclasses too."""

from __future__ import annotations

import re

from torch import nn

from torchdecay.plans.names import per_class
from torchdecay.plans.roles import usage
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
        **{f"{part}_proj_weight": ("weight", "matrix") for part in ("in", "q", "k", "v")},
        **dict.fromkeys(("in_proj_bias", "bias_k", "bias_v"), ("bias", "")),
    },
}
"""Qualified class name → attribute → (role, kind). A norm's bias is of role norm too: it belongs to the norm."""

_FLAT = {"weight": ("weight", "matrix"), "weights": ("weight", "matrix"), "bias": ("bias", "")}
TENSOR_PRODUCTS: dict[str, dict[str, tuple[str, str]]] = {
    **dict.fromkeys(("e3nn.TensorProduct", "e3nn.Linear", "e3nn.LinearTensorProduct"), _FLAT),
    **dict.fromkeys(("cuequivariance_torch.SegmentedPolynomial", "cuequivariance_torch.Linear"), _FLAT),
    **dict.fromkeys(("cuequivariance_torch.FullyConnectedTensorProduct", "e3nn.ExtractIr"), _FLAT),
    "e3nn.BatchNorm": _NORM,
    "e3nn.NormActivation": {"biases": ("bias", "")},
    **dict.fromkeys(("escnn._RdConv", "escnn.Linear", "e2cnn.R2Conv", "escnn.R2Conv", "escnn.R3Conv"), _FLAT),
}
"""The same for libraries that keep the matrices of a tensor product flat, in one dimension: package and class name."""

POSITION_WORDS = word_set("position positions positional pos relative rel distance wpe")
INPUT_WORDS = word_set("token tokens word words input inputs type segment vocab")
VIRTUAL_TOKEN_CLASSES = word_set("PromptEmbedding PromptEncoder PrefixEncoder MultitaskPromptEmbedding CPTEmbedding")
_READ_BY_POSITION = ("weight of nn.Linear", "weight of nn.Embedding")
_LAYER_SUFFIX = re.compile(r"_l\d+(_reverse)?$")


def torch_module(place: Place) -> Verdict | None:
    """The owner is a module of torch.nn, or a subclass of one that keeps its parameters."""
    if place.node is None:
        return None
    known = _known_of(type(place.node.module))
    verdict = known.get(place.attribute) or known.get(_LAYER_SUFFIX.sub("", place.attribute))
    if verdict is None:
        return None
    read_by_position = verdict.evidence in _READ_BY_POSITION and place.attribute == "weight"
    above = place.node.parent
    # What is above only indexes the weight of this one by position, and never calls it.
    if read_by_position and above is not None and place.node.segment in usage.tables(above.module):
        return Verdict("position", "", f"{verdict.evidence} that is never called, and whose rows are read by position")
    return _embedding(place, verdict) if verdict.role == "embedding" else verdict


def torch_norm(kind: type) -> bool:
    """Whether a class is one of torch's normalizations."""
    return any(KNOWN.get(f"{base.__module__}.{base.__qualname__}") is _NORM for base in kind.__mro__)


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
        package = base.__module__.partition(".")[0]
        known = KNOWN.get(f"{base.__module__}.{base.__qualname__}")
        flat = TENSOR_PRODUCTS.get(f"{package}.{base.__qualname__}", {})
        for attribute, (role, sort) in (known or flat).items():
            shown = _shown(kind, base) if known else f"{package}'s {base.__qualname__}"
            found.setdefault(attribute, Verdict(role, sort, f"{attribute} of {shown}"))
    return found


def _shown(kind: type, base: type) -> str:
    """The class for people: "nn.Linear", or "MyLinear, an nn.Linear" for a subclass."""
    public = next((step for step in kind.__mro__ if getattr(nn, step.__name__, None) is step), base)
    name = f"nn.{public.__name__}"
    return name if public.__module__ == kind.__module__ else f"{kind.__name__}, an {name}"


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
