"""Healthy setups, as people build them, raise neither an error nor a warning: the other side of faults.py."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

import torchdecay as td
from this_torch import Muon

pytestmark = pytest.mark.long

Model = tuple[nn.Module, Callable[[nn.Module], Tensor]]


def mlp() -> Model:
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    return model, lambda m: m(torch.randn(5, 6)).square().mean()


def convolutions() -> Model:
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.PReLU(), nn.Conv2d(8, 8, 3))
    model = nn.Sequential(stem, nn.GroupNorm(2, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    return model, lambda m: m(torch.randn(4, 3, 9, 9)).square().mean()


def recurrent() -> Model:
    model = nn.ModuleDict(
        {"embed": nn.Embedding(11, 6), "rnn": nn.LSTM(6, 5, batch_first=True), "out": nn.Linear(5, 11)}
    )
    tokens = torch.arange(11)[None]
    return model, lambda m: m["out"](m["rnn"](m["embed"](tokens))[0]).square().mean()


def attention() -> Model:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False)
    return model, lambda m: m(torch.randn(3, 5, 8)).square().mean()


def frozen_backbone() -> Model:
    model, loss = mlp()
    model[0].requires_grad_(False)
    return model, loss


MODELS = {one.__name__: one for one in (mlp, convolutions, recurrent, attention, frozen_backbone)}


momentum = functools.partial(optim.SGD, momentum=0.9, nesterov=True)


def plain(cls: Any, **options: Any) -> Callable[[nn.Module], Any]:
    return lambda model: cls(td.param_groups(model, 0.1), lr=1e-2, **options)


def attached(decay: td.Decay, cls: Any = optim.AdamW) -> Callable[[nn.Module], Any]:
    def make(model: nn.Module) -> Any:
        plan = td.plan(model, decay)
        optimizer = cls(plan.param_groups(model), lr=1e-2)
        td.attach(optimizer, plan)
        return optimizer

    return make


def by_hand(model: nn.Module) -> Any:
    """As in many repositories: what is spared by name and dimension, in two groups."""
    kept = [p for n, p in model.named_parameters() if p.requires_grad and p.dim() >= 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.requires_grad and not (p.dim() >= 2 and "embed" not in n)]
    return optim.AdamW([{"params": kept, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-2)


def muon_beside_adamw(model: nn.Module) -> Any:
    both = td.split(model, 0.1, heads=())
    made = [(Muon, both.matrices), (optim.AdamW, both.others)]
    return [cls(groups, lr=1e-2) for cls, groups in made if groups]


OPTIMIZERS: dict[str, Callable[[nn.Module], Any]] = {
    "sgd": lambda model: momentum(td.param_groups(model, 5e-4), lr=0.1),
    "adamw": plain(optim.AdamW),
    "adamw fused": plain(optim.AdamW, fused=True),
    "adam decoupled": plain(optim.Adam, decoupled_weight_decay=True),
    "adafactor": plain(optim.Adafactor),
    "radam decoupled": plain(optim.RAdam, decoupled_weight_decay=True),
    "nadam decoupled": plain(optim.NAdam, decoupled_weight_decay=True),
    "no decay": lambda model: optim.Adam((p for p in model.parameters() if p.requires_grad), lr=1e-2),
    "no decay, default groups": lambda model: optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1e-2),
    "rprop": lambda model: optim.Rprop([p for p in model.parameters() if p.requires_grad]),
    "by hand": by_hand,
    "muon beside adamw": muon_beside_adamw,
    "decoupled": attached(td.decoupled(0.1)),
    "coupled": attached(td.coupled(5e-3), momentum),
    "independent": attached(td.independent(1e-3)),
    "corrected": attached(td.corrected(0.1)),
    "per step": attached(td.per_step(1e-3)),
    "cautious": attached(td.cautious(0.1)),
    "l1": attached(td.l1(1e-3)),
    "toward": attached(td.toward("initial", 0.1)),
    "constrained": attached(td.forms.constrained(kappa_initial=1.5)),
}


def loud(found: Any) -> list[str]:
    return [one.head for one in found if one.severity != "info"]


@pytest.mark.parametrize("how", OPTIMIZERS)
@pytest.mark.parametrize("name", MODELS)
def test_a_healthy_setup_is_quiet(name: str, how: str) -> None:
    """Before and after a backward pass, with the run, the loss and a scheduler that is under way."""
    torch.manual_seed(0)
    model, loss_of = MODELS[name]()
    optimizer = OPTIMIZERS[how](model)
    first = optimizer[0] if isinstance(optimizer, list) else optimizer
    assert loud(td.audit(optimizer, model=model)) == []
    loss = loss_of(model)
    run = td.Run(epochs=60, batch_size=10, num_samples=1000, lr_schedule="cosine")
    found = td.audit(optimizer, model=model, loss=loss, run=run)
    assert loud(found) == []
    loss.backward()
    scheduler = optim.lr_scheduler.OneCycleLR(first, max_lr=1e-2, total_steps=50, cycle_momentum=False)
    first.step()
    scheduler.step()
    assert loud(td.audit(optimizer, model=model)) == []


TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40, "intermediate_size": 24}
CONFIGS: dict[str, dict[str, Any]] = {
    "LlamaConfig": {"num_key_value_heads": 1},
    "Gemma2Config": {"num_key_value_heads": 1, "head_dim": 8},
    "Qwen3Config": {"num_key_value_heads": 1, "head_dim": 8},
    "MixtralConfig": {"num_key_value_heads": 1, "num_local_experts": 2},
    "GPT2Config": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "BertConfig": {},
    "ViTConfig": {"image_size": 32, "patch_size": 8},
    "T5Config": {"d_model": 16, "d_ff": 24, "num_layers": 2, "num_heads": 2, "d_kv": 8},
    "MambaConfig": {},
    "ConvNextConfig": {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]},
}


@pytest.mark.integration
@pytest.mark.parametrize("name", CONFIGS)
def test_models_of_transformers_are_healthy_in_standard_groups(name: str) -> None:
    """Built without memory: nothing that a role was read wrongly for decays, and nothing is forgotten."""
    transformers = pytest.importorskip("transformers")
    from torchdecay.cli.inputs.models import FAMILIES

    config = getattr(transformers, name)(**{**TINY, **CONFIGS[name]})
    families = [getattr(transformers, family) for family in FAMILIES]
    made = next(family[type(config)] for family in families if type(config) in family)
    with torch.device("meta"):
        model = (made[0] if isinstance(made, tuple) else made)(config)
    plan = td.plan(model, 0.1)
    optimizer = optim.AdamW(plan.param_groups(model), lr=1e-3)
    run = td.Run(epochs=3, batch_size=1, num_samples=5000)
    assert loud(td.audit(optimizer, model=model, plan=plan, run=run)) == []
