"""Policies: named lists of rules. `STANDARD` is the default; the others say what well-known code bases do."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torchdecay.errors import PlanError
from torchdecay.plans.parameters import Parameter
from torchdecay.plans.rules import DECAY, DEFAULT, Rule, as_rules
from torchdecay.plans.selectors import Exempt, Glob, OfClass, OfClassNamed, OfNdim, OfRole, Selector, once_for_each_kind
from torchdecay.text import nearest, repr_quoted


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

_NORM_NAMES = ("*bias*", "*layernorm*", "*rmsnorm*", "norm", "norm.*", "*.norm", "*.norm.*", "*_norm", "*_norm.*")

huggingface: tuple[Rule, ...] = (
    _spare(OfClass("torch.nn.modules.normalization.LayerNorm"), "torch's LayerNorm is spared"),
    *(_spare(Glob(one, any_case=True), "names with bias or a norm in them are spared") for one in _NORM_NAMES),
)
"""As the transformers Trainer: spare torch's LayerNorm and what has bias, layernorm, rmsnorm or norm in its name;
decay the rest, batch norms, class tokens, position tables and embeddings included."""

nanogpt: tuple[Rule, ...] = (_spare(OfNdim((0, 1)), "what is at most 1-D is spared"),)
"""Spare what is at most 1-D; decay the rest, embeddings and position tables included."""

detectron2: tuple[Rule, ...] = (_spare(OfRole(("norm",)), "norms are spared"),)
"""Spare norms; decay the rest, biases included."""

megatron: tuple[Rule, ...] = (
    _spare(OfNdim((1,)), "what is 1-D is spared"),
    _spare(Glob("*.bias"), "what is called bias is spared"),
)
"""As Megatron-LM without a condition of its own: spare what is 1-D or ends in .bias; decay the rest, embeddings too.
Source: get_param_groups of megatron/core/optimizer, 2024 to 2026."""

torchtitan: tuple[Rule, ...] = (Rule(Glob("*"), DEFAULT, optional=True, label="torchtitan decays all"),)
"""As torchtitan, whose optimizers get all parameters: norm gains decay on purpose.
Source: components/optimizer.py of pytorch/torchtitan, 2025."""

moonlight: tuple[Rule, ...] = (Rule(Glob("*"), DEFAULT, optional=True, label="Moonlight decays all"),)
"""As Moonlight: Muon for hidden matrices, AdamW for embeddings, output and norms, and one weight_decay for all of them.
Source: examples/toy_train.py of MoonshotAI/Moonlight, arXiv 2502.16982, 2025."""

nanochat: tuple[Rule, ...] = (
    _spare(OfNdim((0, 1)), "what is at most 1-D is spared"),
    _spare(OfRole(("embedding", "position")), "embeddings are spared"),
    _spare(Glob("lm_head.*") | Glob("*.lm_head.*"), "the output layer is spared"),
)
"""As nanochat: the matrices of the blocks, which Muon trains, decay; embeddings, output and scalars, AdamW's, do not.
Source: setup_optimizers of karpathy/nanochat, 2025."""

_FASTAI_NORMS = (
    *(f"torch.nn.modules.batchnorm.BatchNorm{n}d" for n in (1, 2, 3)),
    *(f"torch.nn.modules.instancenorm.InstanceNorm{n}d" for n in (1, 2, 3)),
    "torch.nn.modules.normalization.LayerNorm",
)

fastai: tuple[Rule, ...] = (
    *(_spare(OfClass(norm), "torch's norms are spared") for norm in _FASTAI_NORMS),
    _spare(Glob("*.bias") | Glob("bias"), "what is called bias is spared"),
)
"""As fastai's Learner with its wd_bn_bias=False: spare torch's batch, instance and layer norms, and all biases;
decay the rest, embeddings and norms of one's own too. Source: norm_bias_params of fastai.torch_core, 2020 to 2025."""

levanter: tuple[Rule, ...] = (
    _spare(OfClassNamed(("LayerNorm", "RMSNorm", "RmsNorm")), "norms are spared by their class"),
    _spare(OfClassNamed(("Embedding",)), "embeddings are spared by their class"),
    _spare(Glob("*bias"), "what ends in bias is spared"),
)
"""As Levanter without weight_decay_modules: spare what a class with LayerNorm, RMSNorm or Embedding in its name holds,
and what ends in bias; decay the rest, plain parameters and batch norms too.
Source: build_weight_decay_mask of levanter/optim/config.py, 2024 to 2026."""

apertus: tuple[Rule, ...] = (_spare(Glob("*.bias") | Glob("bias"), "what is called bias is spared"),)
"""As Apertus is said to train, without biases: everything decays, norm gains and the alphas of its activation too.
The alphas' flag, --weight-decay-on-xielu-alphas, stands in the runs of swiss-ai/pretrain-code (2026); that gains decay
was not found in its sources. The model: arXiv 2509.14233, 2025."""

# Each policy above is a name of this module in lower case, in this order.
BY_NAME: dict[str, tuple[Rule, ...]] = {"standard": STANDARD} | {
    name: value for name, value in vars().items() if name.islower() and name[0] != "_" and isinstance(value, tuple)
}
"""Every policy by the name that people give."""


def name_of(rules: tuple[Rule, ...]) -> str:
    """The name of a policy, or "custom"."""
    return next((name for name, policy in BY_NAME.items() if policy == rules), "custom")


def named(recipe: str | Iterable[Rule]) -> tuple[str, tuple[Rule, ...]]:
    """A policy by its name, or rules; with the name.

    Raises:
        PlanError: no such policy.
    """
    if not isinstance(recipe, str):
        rules = as_rules(recipe)
        return name_of(rules), rules
    if recipe not in BY_NAME:
        raise PlanError(
            f"there is no recipe {repr_quoted(recipe)}.", nearest(recipe, BY_NAME), f"Known: {', '.join(BY_NAME)}."
        )
    return recipe, BY_NAME[recipe]


def sparing(rules: Iterable[Rule]) -> Callable[[Parameter], bool]:
    """What tells of a parameter whether the first of the rules that has a word about its decay spares it."""
    deciding = [one for one in rules if DECAY in one.decides]

    def spares(parameter: Parameter) -> bool:
        first = next((one for one in deciding if one.selector.picks(parameter)), None)
        return first is not None and first.decay is None

    return once_for_each_kind(spares, [one.selector for one in deciding])


__all__ = ["BY_NAME", "DEFAULT", "STANDARD", "UNSURE", "name_of", "named", "sparing"]
__all__ += [name for name in BY_NAME if name != "standard"]
