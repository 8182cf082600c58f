"""Policies: named lists of rules. `STANDARD` is the default; the others say what well-known code bases do."""

from __future__ import annotations

from torchdecay.plans.rules import DEFAULT, Rule
from torchdecay.plans.selectors import Exempt, Glob, OfClass, OfNdim, OfRole, Selector


def _spare(selector: Selector, label: str) -> Rule:
    return Rule(selector, None, optional=True, label=label)


UNSURE = _spare(OfRole(("unknown",)), "what is unsure is spared")
"""The rule of STANDARD that spares what is of unknown role; a plan warns about whatever it decides."""

STANDARD: tuple[Rule, ...] = (
    _spare(Exempt(), "the model's own wish"),
    _spare(OfRole(("bias",)), "biases are spared"),
    _spare(OfRole(("norm", "scale")), "norms and scales are spared"),
    _spare(OfRole(("position", "token")), "position and token parameters are spared"),
    _spare(OfRole(("embedding",)), "embeddings are spared"),
    _spare(OfRole(("state_space",)), "state-space specials are spared"),
    _spare(OfRole(("scalar",)), "scalars are spared"),
    UNSURE,
)
"""Decay matrices and kernels; spare biases, norms, scales, embeddings, position and token parameters, state-space
specials, scalars, what the model itself wants spared, and, with a warning, what is of unknown role."""

torch: tuple[Rule, ...] = ()
"""As torch does when `model.parameters()` is passed: everything decays."""

timm: tuple[Rule, ...] = (
    _spare(Exempt(), "the model's own wish"),
    _spare(OfNdim((0, 1)), "what is at most 1-D is spared"),
    _spare(Glob("*.bias") | Glob("bias"), "what is called bias is spared"),
)
"""Spare what is at most 1-D, is called bias, or is named by the model's `no_weight_decay()`; decay the rest."""

_HUGGINGFACE_NAMES = (
    "*bias*",
    "*layernorm*",
    "*rmsnorm*",
    "norm",
    "norm.*",
    "*.norm",
    "*.norm.*",
    "*_norm",
    "*_norm.*",
)

huggingface: tuple[Rule, ...] = (
    _spare(OfClass("torch.nn.modules.normalization.LayerNorm"), "torch's LayerNorm is spared"),
    *(
        _spare(Glob(pattern, any_case=True), "names with bias or a norm in them are spared")
        for pattern in _HUGGINGFACE_NAMES
    ),
)
"""As the transformers Trainer: spare torch's LayerNorm and what has bias, layernorm, rmsnorm or norm in its name;
decay the rest, batch norms, class tokens, position tables and embeddings included."""

nanogpt: tuple[Rule, ...] = (_spare(OfNdim((0, 1)), "what is at most 1-D is spared"),)
"""Spare what is at most 1-D; decay the rest, embeddings and position tables included."""

detectron2: tuple[Rule, ...] = (_spare(OfRole(("norm",)), "norms are spared"),)
"""Spare norms; decay the rest, biases included."""

BY_NAME: dict[str, tuple[Rule, ...]] = {
    "standard": STANDARD,
    "torch": torch,
    "timm": timm,
    "huggingface": huggingface,
    "nanogpt": nanogpt,
    "detectron2": detectron2,
}


def name_of(rules: tuple[Rule, ...]) -> str:
    """The name of a policy, or "custom"."""
    return next((name for name, policy in BY_NAME.items() if policy == rules), "custom")


__all__ = [
    "BY_NAME",
    "DEFAULT",
    "STANDARD",
    "UNSURE",
    "detectron2",
    "huggingface",
    "name_of",
    "nanogpt",
    "timm",
    "torch",
]
