"""What the parameters of torch.nn's own modules are for: known exactly, for subclasses too."""

from __future__ import annotations

import re
from functools import lru_cache

from torchdecay.plan.roles.site import Site, Verdict
from torchdecay.plan.roles.words import among

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
"""Qualified class name → attribute → (role, kind). The bias of a norm layer is of role norm: it belongs to the norm."""

POSITION_WORDS = frozenset("position positions positional pos relative rel wpe".split())
VIRTUAL_TOKEN_CLASSES = frozenset({"PromptEmbedding", "PrefixEncoder"})
_LAYER_SUFFIX = re.compile(r"_l\d+(_reverse)?$")


def torch_module(site: Site) -> Verdict | None:
    """The owner is a module of torch.nn, or a subclass of one that keeps its parameters."""
    if site.place is None:
        return None
    known = _known(type(site.place.module), site.attribute)
    if known is None:
        return None
    role, kind, owner = known
    if role == "embedding":
        return _embedding(site, owner)
    return Verdict(role, kind, f"{site.attribute} of {owner}")


def parametrization(site: Site) -> Verdict | None:
    """A part of a parametrized tensor that is not that tensor's stand-in: a weight norm's length, say."""
    if site.part == "length":
        return Verdict("scale", "", f"the length g in a weight norm of `{site.attribute}`")
    if site.part in ("", "direction", "original"):
        return None
    several = ", ".join(site.through) or "a parametrization"
    return Verdict("unknown", "", f"one of several tensors that {several} makes `{site.attribute}` from")


def _known(kind: type, attribute: str) -> tuple[str, str, str] | None:
    return _known_of(kind).get(_LAYER_SUFFIX.sub("", attribute))


@lru_cache(maxsize=None)
def _known_of(kind: type) -> dict[str, tuple[str, str, str]]:
    """Attribute → (role, kind, class name for people) for a module class; the nearest base that knows it wins."""
    found: dict[str, tuple[str, str, str]] = {}
    for base in kind.__mro__:
        for attribute, (role, sort) in KNOWN.get(f"{base.__module__}.{base.__qualname__}", {}).items():
            found.setdefault(attribute, (role, sort, _shown(kind, base)))
    return found


def _shown(kind: type, base: type) -> str:
    """ "nn.Linear" for torch's own, "MyLinear, an nn.Linear" for a subclass from elsewhere."""
    own = next(step for step in kind.__mro__ if step.__module__.startswith("torch.nn.modules."))
    name = f"nn.{own.__name__}" if not own.__name__.startswith("_") else f"nn.{base.__name__}"
    return name if own is kind else f"{kind.__name__}, a kind of {name}"


def _embedding(site: Site, owner: str) -> Verdict:
    if site.owner_class in VIRTUAL_TOKEN_CLASSES or site.segments and _owned_by(site, VIRTUAL_TOKEN_CLASSES):
        return Verdict("token", "", f"{site.attribute} of {owner} inside a PEFT prompt: virtual tokens")
    word = among(POSITION_WORDS, site.segment, site.owner_class)
    if word:
        return Verdict("position", "", f"{site.attribute} of {owner} named for positions (“{word}”)")
    return Verdict("embedding", "", f"{site.attribute} of {owner}")


def _owned_by(site: Site, names: frozenset[str]) -> bool:
    return bool(site.place and site.place.parent and type(site.place.parent.module).__name__ in names)

