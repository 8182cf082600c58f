"""Policies do what the code bases do that they are named after."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import torchdecay as td
from plans.examples import Deep, Odd
from torchdecay.plans import policies


class Stem(nn.Module):
    """One of everything that policies disagree about."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.randn(1, 3, 4))
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.norm = nn.LayerNorm(4)
        self.fc = nn.Linear(4, 2)
        self.act = nn.PReLU()

    def no_weight_decay(self) -> set[str]:
        return {"pos_embed"}


def decayed(model: nn.Module, rules: Any) -> set[str]:
    return {row.name for row in td.plan(model, 0.1, rules=rules).rows if row.decay is not None}


def test_standard_decays_matrices_and_kernels_only() -> None:
    """Biases, norms, scales, embeddings, positions and tokens are spared."""
    assert decayed(Stem(), td.STANDARD) == {"conv.weight", "fc.weight"}


def test_torch_decays_everything() -> None:
    """As `optimizer(model.parameters(), weight_decay=...)` does."""
    model = Stem()
    assert decayed(model, policies.torch) == {name for name, _ in model.named_parameters()}


def timm_reference(model: nn.Module, skip: set[str]) -> set[str]:
    """timm's own rule, written down once more: at most 1-D, ends in .bias, or on the model's list."""
    return {name for name, p in model.named_parameters() if not (p.ndim <= 1 or name.endswith(".bias") or name in skip)}


def test_timm_spares_vectors_biases_and_the_models_list() -> None:
    """M2.2 as timm has it; the token and the embedding decay there."""
    model = Stem()
    assert decayed(model, policies.timm) == timm_reference(model, model.no_weight_decay())


def test_nanogpt_spares_vectors_only() -> None:
    """What has two dimensions decays, embeddings and tables included."""
    model = Stem()
    assert decayed(model, policies.nanogpt) == {name for name, p in model.named_parameters() if p.dim() >= 2}


def test_detectron2_spares_norms_only() -> None:
    """Biases of convolutions and linear layers decay there, those of norms do not."""
    model = Stem()
    spared = {name for name, _ in model.named_parameters()} - decayed(model, policies.detectron2)
    assert spared == {"bn.weight", "bn.bias", "norm.weight", "norm.bias"}


CONFIGS: dict[str, dict[str, Any]] = {
    "BertModel": {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16},
    "LlamaModel": {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16},
    "GPT2Model": {"n_layer": 2, "n_embd": 16, "n_head": 2},
    "ViTModel": {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16},
    "ResNetModel": {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]},
    "T5Model": {"num_layers": 2, "d_model": 16, "num_heads": 2, "d_ff": 16, "d_kv": 8},
    "ConvNextModel": {"hidden_sizes": [8, 8], "depths": [1, 1], "num_stages": 2},
}


@pytest.mark.integration
@pytest.mark.parametrize("name", CONFIGS)
def test_huggingface_is_the_trainers_rule(name: str) -> None:
    """Parameter by parameter what transformers' own Trainer decides, on models whose names differ."""
    transformers = pytest.importorskip("transformers")
    trainer = pytest.importorskip("transformers.trainer")
    with torch.device("meta"):
        model = getattr(transformers, name)(getattr(transformers, name.replace("Model", "Config"))(**CONFIGS[name]))
    theirs = set(trainer.Trainer.get_decay_parameter_names(None, model))
    assert decayed(model, policies.huggingface) == theirs & {name for name, _ in model.named_parameters()}


class NamedNorms(nn.Module):
    """Names that hit and miss the patterns of the Trainer."""

    def __init__(self) -> None:
        super().__init__()
        for name in (
            "norm",
            "x_norm",
            "LayerNorm_scale",
            "my_rmsnorm",
            "RMSNorm_g",
            "q_bias",
            "BIAS",
            "normal",
            "enorm",
        ):
            self.register_parameter(name, nn.Parameter(torch.ones(2, 2)))
        self.sub = nn.Module()
        for name in ("norm", "post_norm", "norm_out", "debias_proj"):
            self.sub.register_parameter(name, nn.Parameter(torch.ones(2, 2)))
        self.norm_mlp = nn.Linear(2, 2, bias=False)


@pytest.mark.integration
def test_huggingface_reads_hostile_names_as_the_trainer_does() -> None:
    """The patterns are the Trainer's, at the start, in the middle and at the end of a name, whatever the case."""
    trainer = pytest.importorskip("transformers.trainer")
    model = NamedNorms()
    assert decayed(model, policies.huggingface) == set(trainer.Trainer.get_decay_parameter_names(None, model))


def test_each_policy_knows_its_name() -> None:
    """A plan says by which policy it was made, and "custom" for anything else."""
    model = Stem()
    for name, rules in policies.BY_NAME.items():
        assert td.plan(model, 0.1, rules=rules).policy == name
    assert td.plan(model, 0.1).policy == "standard"
    assert td.plan(model, 0.1, rules=[td.rule("fc.*", 0.2), *td.STANDARD]).policy == "custom"


@pytest.mark.parametrize("name", policies.BY_NAME)
def test_policies_fit_any_model(name: str) -> None:
    """Their rules are optional: a model without norms is no error."""
    model = nn.Linear(2, 2, bias=False)
    assert decayed(model, policies.BY_NAME[name]) == {"weight"}


def test_what_is_unsure_is_spared_with_a_warning_that_names_it() -> None:
    """Never guessed silently, and the warning points at the user's line."""
    with pytest.warns(td.UnknownRoleWarning, match="zorp") as caught:
        plan = td.plan(Odd(), 0.1)
    assert plan["zorp"].decay is None
    assert caught[0].filename == __file__
    with pytest.warns(td.UnknownRoleWarning, match="zorp") as caught:
        td.param_groups(Odd(), 0.1)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("decay", "rules", "decays"),
    [
        (0.1, [td.rule("zorp", td.DEFAULT), *td.STANDARD], True),
        (0.1, [td.rule("zorp", None), *td.STANDARD], False),
        (0.1, policies.torch, True),
        (0.1, policies.nanogpt, True),
        (None, td.STANDARD, False),
    ],
    ids=["said to decay", "said to be spared", "torch", "nanogpt", "nothing decays"],
)
def test_nobody_is_warned_of_what_was_decided(decay: Any, rules: Any, decays: bool) -> None:
    """A warning that stays after the user has said what the parameter is teaches to overlook warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = td.plan(Odd(), decay, rules=rules)
    assert (plan["zorp"].decay is not None) is decays


def test_standard_is_quiet_on_a_plain_model() -> None:
    """No warning where every role is known."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert td.plan(Deep(2), 0.1).policy == "standard"


def fastai_reference(module: nn.Module) -> list[nn.Parameter]:
    """What fastai's Learner spares, written down once more: norms of torch whole, and each module's own `bias`."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.LayerNorm)
    if isinstance(module, norms):
        return list(module.parameters())
    found = [one for child in module.children() for one in fastai_reference(child)]
    own = getattr(module, "bias", None)
    return [*found, *([own] if own is not None else [])]


def test_megatron_torchtitan_moonlight_nanochat_and_fastai() -> None:
    """Parameter for parameter what their own lines decide."""
    model = nn.Sequential(Stem(), nn.InstanceNorm2d(2, affine=True), Stem())
    model.add_module("lm_head", nn.Linear(4, 5, bias=False))
    named = dict(model.named_parameters())
    spared = {id(one) for one in fastai_reference(model)}
    assert decayed(model, policies.fastai) == {n for n, p in named.items() if id(p) not in spared}
    megatron = {n for n, p in named.items() if not (n.endswith(".bias") or len(p.shape) == 1)}
    assert decayed(model, policies.megatron) == megatron
    assert decayed(model, policies.torchtitan) == decayed(model, policies.moonlight) == named.keys()
    matrices = {"0.conv.weight", "0.fc.weight", "2.conv.weight", "2.fc.weight", "0.cls_token", "2.cls_token"}
    assert decayed(model, policies.nanochat) == matrices
    assert policies.named("timm") == ("timm", policies.timm)
    with pytest.raises(td.PlanError, match="megatron"):
        policies.named("megatorn")


def test_levanter_and_apertus() -> None:
    """Parameter for parameter what their own lines decide; a class is known by its name alone."""

    class GatedRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain, self.out_bias = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))

    class Bag(nn.EmbeddingBag):
        pass

    model = nn.ModuleDict({"stem": Stem(), "own": GatedRMSNorm(), "bag": Bag(5, 4)})
    spared = {"stem.embed.weight", "stem.norm.weight", "own.gain", "own.out_bias"}
    spared |= {name for name, _ in model.named_parameters() if name.endswith("bias")}
    names = {name for name, _ in model.named_parameters()}
    assert decayed(model, policies.levanter) == names - spared
    assert decayed(model, policies.apertus) == {name for name in names if not name.endswith(".bias")}
