"""`split`: each parameter on exactly one side, with that side's decay, stepped by a real Muon and a real AdamW."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from this_torch import Muon
from torchdecay.errors import PlanError


class Language(nn.Module):
    """A small language model: embedding, block with a norm, an expert stack, a convolution, an output layer."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.mix = nn.Conv1d(4, 4, 1)
        self.up = nn.Linear(4, 8)
        self.norm = nn.LayerNorm(8)
        self.down = nn.Linear(8, 4, bias=False)
        self.lm_head = nn.Linear(4, 11, bias=False)
        if tied:
            self.lm_head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.mix(self.embed(tokens).transpose(-1, -2)).transpose(-1, -2)
        out: torch.Tensor = self.lm_head(x + self.down(self.norm(self.up(x))))
        return out


def names(groups: list[dict]) -> set[str]:
    return {name for group in groups for name in group["param_names"]}


@pytest.mark.parametrize("tied", [False, True])
def test_each_parameter_is_on_exactly_one_side(tied: bool) -> None:
    """None is lost, none is twice, a tied output layer is its embedding, and a frozen weight is on no side."""
    model = Language(tied=tied)
    model.mix.bias.requires_grad_(False)
    split = td.split(model, 0.1)
    assert names(split.matrices) == {"up.weight", "down.weight"}
    given = [id(param) for group in (*split.matrices, *split.others) for param in group["params"]]
    assert len(given) == len(set(given))
    assert set(given) == {id(param) for param in model.parameters() if param.requires_grad}
    assert len(split.plan) == len(given)


def test_each_side_has_its_own_decay_and_the_rules_hold_on_both() -> None:
    """Embeddings, norms and biases stay spared on their side; a number or any form will do."""
    split = td.split(Language(), td.decoupled(0.1), others=0.01, lr=1e-3)
    assert split.plan["up.weight"].decay == td.decoupled(0.1)
    assert split.plan["lm_head.weight"].decay == split.plan["mix.weight"].decay == td.native(0.01)
    assert all(split.plan[name].decay is None for name in ("embed.weight", "up.bias", "norm.weight"))
    assert all(group["lr"] == 1e-3 for group in (*split.matrices, *split.others))
    assert td.split(Language(), 0.1).plan["lm_head.weight"].decay == td.native(0.1)
    assert td.split(Language(), 0.1, others=None).plan["lm_head.weight"].decay is None
    everything = td.split(Language(), 0.1, rules=()).plan
    assert everything["norm.weight"].decay == td.native(0.1)


def test_the_plan_says_which_side_and_why() -> None:
    """`explain` answers why a matrix is not with Muon; the plan is one like any other and travels as JSON."""
    plan = td.split(Language(), 0.1).plan
    assert "side matrices" in plan.explain("up.weight")
    assert "side others, an output layer by its name" in plan.explain("lm_head.weight")
    assert "side others, 3-D" in plan.explain("mix.weight")
    assert "side others, role norm" in plan.explain("norm.weight")
    assert td.Plan.from_json(plan.to_json()) == plan
    assert json.loads(plan.to_json())["rows"]


MLP = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("model", "heads", "other"),
    [
        (MLP, None, {"2.weight"}),
        (MLP, (), set()),
        (MLP, "0.*", {"0.weight"}),
        (MLP, ["0.*", td.names("2.weight")], {"0.weight", "2.weight"}),
        (nn.ModuleDict({"fc": nn.Linear(3, 2), "a": nn.Linear(3, 3)}), None, {"fc.weight"}),
        (nn.ModuleDict({"x": nn.ModuleDict({"fc": nn.Linear(3, 2)}), "a": nn.Linear(3, 3)}), None, {"a.weight"}),
    ],
)
def test_the_output_layer_is_known_by_name_or_last_or_as_said(model: nn.Module, heads: object, other: set[str]) -> None:
    """Muon is for matrices between hidden layers; the user has the last word."""
    split = td.split(model, 0.1, heads=heads)
    assert {name for name in names(split.others) if name.endswith("weight")} == other


def test_a_split_that_leaves_a_side_empty_or_a_head_that_matches_nothing_is_an_error() -> None:
    """torch would say "empty parameter list", and a typo in heads= would give the output layer to Muon."""
    with pytest.raises(PlanError, match="no hidden matrices"):
        td.split(nn.Linear(3, 2), 0.1)
    with pytest.raises(PlanError, match="no other parameters"):
        td.split(nn.Linear(3, 2, bias=False), 0.1, heads=())
    with pytest.raises(PlanError, match=r'(?s)heads: "lm_haed.*" matches no parameter.*lm_head'):
        td.split(Language(), 0.1, heads="lm_haed.*")
    with pytest.raises(PlanError, match="where a model belongs"):
        td.split([1], 0.1)


def build(model: nn.Module, split: td.Split) -> tuple[Muon, optim.AdamW]:
    return Muon(split.matrices, lr=0.02), optim.AdamW(split.others, lr=0.01)


def train(model: nn.Module, optimizers: tuple[optim.Optimizer, ...]) -> dict[str, torch.Tensor]:
    tokens = torch.randint(11, (3, 5), generator=torch.Generator().manual_seed(0))
    for _ in range(4):
        model(tokens).logsumexp(-1).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return {name: param.detach().clone() for name, param in model.named_parameters()}


def test_muon_and_adamw_step_with_each_sides_decay() -> None:
    """Against the same two optimizers with their own weight_decay, bit for bit; and verify finds both sides as said."""
    torch.manual_seed(0)
    model = Language()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    by_number = train(model, build(model, td.split(model, 0.3, others=0.2)))
    model.load_state_dict(start)
    split = td.split(model, td.decoupled(0.3), others=td.decoupled(0.2))
    optimizers = build(model, split)
    for optimizer in optimizers:
        td.attach(optimizer, split.plan, via="hook")
    by_hook = train(model, optimizers)
    assert all(torch.equal(value, by_hook[name]) for name, value in by_number.items())
    assert td.verify(list(optimizers)).ok
    model.load_state_dict(start)
    without = train(model, build(model, td.split(model, None)))
    moved = {name for name, value in by_number.items() if not torch.equal(value, without[name])}
    # What decays differs at once, and all the rest through the gradients of the second step.
    assert {"up.weight", "down.weight", "lm_head.weight", "mix.weight"} <= moved
