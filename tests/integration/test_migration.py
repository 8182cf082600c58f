"""The page "coming from ...": before and after make the same groups, on the libraries themselves where they install."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn, optim

import torchdecay as td

pytestmark = pytest.mark.peers


class Model(nn.Module):
    """Of all that rules disagree about."""

    def __init__(self):
        super().__init__()
        self.embed, self.position = nn.Embedding(10, 8), nn.Parameter(torch.zeros(1, 4, 8))
        self.conv, self.bn = nn.Conv1d(8, 8, 3), nn.BatchNorm1d(8)
        self.attention, self.norm = nn.MultiheadAttention(8, 2), nn.LayerNorm(8)
        self.head = nn.Linear(8, 2)


MODEL = Model()


def decays(groups, model=MODEL):
    """{name: weight_decay} of parameter groups."""
    names = {id(param): name for name, param in model.named_parameters()}
    return {names[id(param)]: group["weight_decay"] for group in groups for param in group["params"]}


def test_torch_decays_all():
    assert decays(td.param_groups(MODEL, 0.1, rules=td.policies.torch)) == decays(
        optim.AdamW(MODEL.parameters(), weight_decay=0.1).param_groups
    )


def test_nanogpt_goes_by_dimensions():
    before = [
        {"params": [p for p in MODEL.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in MODEL.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    assert decays(td.param_groups(MODEL, 0.1, rules=td.policies.nanogpt)) == decays(before)


def test_timm_makes_the_same_optimizer():
    timm_optim = pytest.importorskip("timm.optim", reason="timm is not installed")
    before = timm_optim.create_optimizer_v2(MODEL, "adamw", lr=0.1, weight_decay=0.05)
    plan = td.plan(MODEL, 0.05, rules=td.policies.timm)
    after = timm_optim.create_optimizer_v2(MODEL, "adamw", lr=0.1, param_group_fn=plan.param_groups)
    assert decays(before.param_groups) == decays(after.param_groups)


def test_transformers_makes_the_same_groups(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from torchdecay.integrations.transformers import decayed

    args = transformers.TrainingArguments(str(tmp_path), weight_decay=0.01, report_to="none", use_cpu=True)
    before = transformers.Trainer(MODEL, args)
    after = decayed(transformers.Trainer)(MODEL, args, decay=0.01, rules=td.policies.huggingface)
    assert decays(before.create_optimizer().param_groups) == decays(after.create_optimizer().param_groups)


def test_detectron2_spares_norms():
    """Its rule, as its source has it: modules of its list of norm types get weight_decay_norm."""
    norms = {id(p) for one in (MODEL.bn, MODEL.norm) for p in one.parameters()}
    expected = {name: 0.0 if id(param) in norms else 1e-4 for name, param in MODEL.named_parameters()}
    assert decays(td.param_groups(MODEL, 1e-4, rules=td.policies.detectron2)) == expected


def test_fastai_without_decay_of_batch_norms_and_biases():
    pytest.importorskip("fastai", reason="fastai is not installed")
    from fastai.torch_core import norm_bias_params

    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    spared = {id(param) for param in norm_bias_params(model, True)}
    rules = [td.rule(td.role("bias", "norm"), None, optional=True)]
    expected = {name: 0.0 if id(param) in spared else 0.01 for name, param in model.named_parameters()}
    assert decays(td.param_groups(model, 0.01, rules=rules), model) == expected


def test_optax_and_keras_name_what_they_spare():
    """A mask by dimensions, and names that are left out; neither library is installed beside torch here."""
    mask = td.param_groups(MODEL, 0.1, rules=[td.rule(td.ndim(0, 1), None)])
    assert decays(mask) == {name: 0.1 if param.ndim > 1 else 0.0 for name, param in MODEL.named_parameters()}
    named = td.param_groups(MODEL, 0.004, rules=[td.rule("*bias", None)])
    assert decays(named) == {name: 0.0 if name.endswith("bias") else 0.004 for name, _ in MODEL.named_parameters()}


def test_a_regularizer_of_keras_is_half_the_weight_decay():
    """0.01·Σw² in the loss has the gradient of a penalty with coefficient 0.02."""
    model = copy.deepcopy(MODEL.head)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.penalized(0.02), model=model)
    assert float(handle.penalty()) == pytest.approx(0.01 * float(model.weight.square().sum()))
    handle.remove()
