"""A plan: every trainable parameter in exactly one row, decided by the first rule that matches, with the reason."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from torch import nn

import torchdecay as td
from plans.examples import (
    DECAYS,
    LAMBDA,
    Deep,
    Odd,
    TiedModel,
    choices,
    decays,
    double,
    models,
    resnet50,
    rules,
)
from torchdecay.encoding import is_opaque
from torchdecay.errors import DecayError, LoadError, PlanError
from torchdecay.plans.census import census
from torchdecay.plans.parameters import Parameter
from torchdecay.plans.rows import Row
from torchdecay.plans.schedules import Custom
from torchdecay.plans.selectors import as_selector

pytestmark = pytest.mark.filterwarnings("ignore::torchdecay.UnknownRoleWarning")
GOLDEN = Path(__file__).parents[1] / "golden"


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))


# ── M2.1: every parameter by name ──


def test_m2_1_every_parameter_of_resnet50_is_listed_by_name_with_what_happens_to_it() -> None:
    """conv1.weight, bn1.weight, bn1.bias, layer1.0.conv1.weight, ...: all 161, in order, each with its decay."""
    model = resnet50()
    plan = td.plan(model, td.decoupled(0.1))
    names = [row.name for row in plan.rows]
    assert names[:4] == ["conv1.weight", "bn1.weight", "bn1.bias", "layer1.0.conv1.weight"]
    assert names == [name for name, _ in model.named_parameters()]
    assert len(names) == 161
    text = plan.table(group=False).to_text(width=200)
    for row in plan.rows:
        line = next(line for line in text.splitlines() if line.startswith(f"{row.name} "))
        kernel = len(row.shape) > 1
        assert ("decoupled(0.1)" in line) == kernel
        assert ("spared" in line) == (not kernel)
        assert (row.decay == td.decoupled(0.1)) == kernel


def test_m2_1_the_names_are_torchvisions() -> None:
    """The list kept with the tests is what torchvision's own ResNet-50 prints, and so is what the plan lists."""
    kept = (GOLDEN / "resnet50_names.txt").read_text().split()
    assert [row.name for row in td.plan(resnet50(), 0.1).rows] == kept


@pytest.mark.peers
def test_m2_1_the_names_are_those_of_the_installed_torchvision() -> None:
    """Its own model gives the same list."""
    theirs = pytest.importorskip("torchvision.models").resnet50
    with torch.device("meta"):
        model = theirs()
    assert [(r.name, r.shape) for r in td.plan(model, 0.1).rows] == [
        (r.name, r.shape) for r in td.plan(resnet50(), 0.1).rows
    ]


# ── M2.2: two groups, and none forgotten ──


class Language(nn.Module):
    """Bias, batch norm, layer norm, weight norm, an embedding and a frozen part."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.conv = nn.Conv1d(4, 4, 3)
        self.bn = nn.BatchNorm1d(4)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 10)
        self.frozen = nn.Linear(4, 4)
        self.frozen.requires_grad_(False)


def sort_parameters_as_printed(model: nn.Module, skip: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The two-group snippet as it is printed: its `if` stands outside the loop, so one parameter is sorted."""
    decay, spare = [], []
    for name, parameter in model.named_parameters():  # noqa: B007  (the bug is what is shown)
        if not parameter.requires_grad:
            continue
    if len(parameter.shape) == 1 or name.endswith(".bias") or name in skip:
        spare.append(name)
    else:
        decay.append(name)
    return decay, spare


def sort_parameters_as_meant(model: nn.Module, skip: tuple[str, ...]) -> tuple[list[str], list[str]]:
    decay, spare = [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if len(parameter.shape) == 1 or name.endswith(".bias") or name in skip:
            spare.append(name)
        else:
            decay.append(name)
    return decay, spare


def every_one_is_kept(model: nn.Module, decay: list[str], spare: list[str]) -> bool:
    trainable = sorted(name for name, p in model.named_parameters() if p.requires_grad)
    return sorted(decay + spare) == trainable


def two_groups(groups: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The names that decay and those that do not."""
    assert len(groups) == 2
    decay, spare = sorted(groups, key=lambda group: -group["weight_decay"])
    assert (decay["weight_decay"], spare["weight_decay"]) == (0.1, 0.0)
    return decay["param_names"], spare["param_names"]


def test_m2_2_two_groups_keep_every_parameter() -> None:
    """Vectors, biases and the skip list are spared, the rest decays, what is frozen is left out."""
    model = Language()
    groups = td.param_groups(model, 0.1, rules=td.policies.timm, skip=["embed.weight"])
    decay, spare = two_groups(groups)
    assert every_one_is_kept(model, decay, spare)
    assert (decay, sorted(spare)) == (
        sort_parameters_as_meant(model, ("embed.weight",))[0],
        sorted(sort_parameters_as_meant(model, ("embed.weight",))[1]),
    )
    assert not any(name.startswith("frozen") for name in decay + spare)


def test_m2_2_the_printed_snippet_forgets_all_but_the_last() -> None:
    """The seeded bug is caught by the very check that our groups pass."""
    model = Language()
    decay, spare = sort_parameters_as_printed(model, ("embed.weight",))
    assert len(decay + spare) == 1
    assert not every_one_is_kept(model, decay, spare)


def test_m2_2_the_standard_rules_spare_norms_of_every_shape() -> None:
    """Also the length of a weight norm, which has two dimensions and slips through every count of dimensions."""
    model = Language()
    decay, spare = two_groups(td.param_groups(model, 0.1))
    assert every_one_is_kept(model, decay, spare)
    assert model.normed.parametrizations.weight.original0.dim() == 2
    assert "normed.parametrizations.weight.original0" in spare
    assert set(decay) == {"conv.weight", "normed.parametrizations.weight.original1", "head.weight"}


@pytest.mark.parametrize(
    "skip",
    ["embed.*", ["embed.*"], ("embed.weight",), {"embed.weight"}, nn.Embedding, td.role("embedding"), [nn.Embedding]],
    ids=repr,
)
def test_m2_2_the_skip_list_takes_names_patterns_classes_and_selectors(skip: Any) -> None:
    """However the embedding is called, it is spared."""
    groups = td.param_groups(Language(), 0.1, rules=td.policies.nanogpt, skip=skip)
    assert "embed.weight" in two_groups(groups)[1]


def test_m2_2_a_skip_that_skips_nothing_is_an_error() -> None:
    """A typo on the skip list would decay what should be spared."""
    with pytest.raises(PlanError, match=r'Nearest: "embed\.weight"'):
        td.param_groups(Language(), 0.1, skip=["embd.weight"])


# ── M2.3 and M2.4 ──


def test_m2_3_weight_and_bias_of_one_layer_get_values_of_their_own() -> None:
    """Weight 0.5, bias 0.0 of one Linear layer; the rest as everywhere."""
    model = mlp()
    plan = td.plan(model, 0.1, rules=[td.rule("0.weight", 0.5), td.rule("0.bias", 0.0), *td.STANDARD])
    assert plan["0.weight"].decay == td.native(0.5)
    assert plan["0.bias"].decay is None
    assert plan["2.weight"].decay == td.native(0.1)
    optimizer = torch.optim.SGD(plan.param_groups(model), lr=0.1)
    values = {name: g["weight_decay"] for g in optimizer.param_groups for name in g["param_names"]}
    assert (values["0.weight"], values["0.bias"], values["2.weight"]) == (0.5, 0.0, 0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        # One rounding between lr·wd and the two products of SGD.
        torch.testing.assert_close(p.detach(), before[name] * (1 - 0.1 * values[name]), rtol=1e-6, atol=0)
    assert torch.equal(model[0].bias, before["0.bias"])


# ── The first match wins ──


def rule_by_hand(parameter: Parameter, ordered: Any, default: Any) -> Any:
    """What a plan should decide for an untied parameter: the decay and each option by the first rule that says it."""
    matching = [one for one in ordered if one.selector.picks(parameter)]
    options: dict[str, Any] = {}
    for one in reversed(matching):
        options |= dict(one.options)
    decay = next((one.resolve(default) for one in matching if "UNSAID" not in repr(one.decay)), default)
    return decay, tuple(sorted(options.items()))


@given(model=models(), decay=choices, ordered=rules)
def test_every_trainable_parameter_is_in_exactly_one_row_by_the_first_rule(
    model: nn.Module, decay: Any, ordered: Any
) -> None:
    """Whatever the model and the rules: a row each, none for what is frozen, and the first match decides."""
    assume(decay is None or isinstance(decay, (float, td.Decay)))
    try:
        plan = td.plan(model, decay, rules=ordered)
    except DecayError:
        # times() lifted a fraction per step above 1.
        return
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    every = {name for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    assert {row.name for row in plan.rows} == trainable
    assert len(plan.rows) == len(trainable)
    assert {name for row in plan.rows for name in row.names} == every
    for parameter in census(model):
        if parameter.trainable and len(parameter.names) == 1:
            row = plan[parameter.name]
            expected = rule_by_hand(parameter, ordered, plan.decay)
            assert (row.decay, row.options) == expected


def test_order_decides_between_overlapping_rules() -> None:
    """The same two rules in the other order give the other decay."""
    one, two = td.rule("0.*", 0.5, optional=True), td.rule("*.weight", 0.3, optional=True)
    assert td.plan(mlp(), 0.1, rules=[one, two])["0.weight"].decay == td.native(0.5)
    assert td.plan(mlp(), 0.1, rules=[two, one])["0.weight"].decay == td.native(0.3)


def test_a_rule_with_options_alone_says_nothing_about_who_decays() -> None:
    """A learning rate for the backbone leaves its norms and biases spared, and `explain` names both rules."""
    model = nn.ModuleDict({"backbone": nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)), "head": nn.Linear(3, 2)})
    plan = td.plan(model, td.decoupled(0.1), rules=[td.rule("backbone.*", lr=1e-5), *td.STANDARD])
    plain = td.plan(model, td.decoupled(0.1))
    assert [row.decay for row in plan.rows] == [row.decay for row in plain.rows]
    assert [dict(row.options) for row in plan.rows] == [{"lr": 1e-5}] * 4 + [{}] * 2
    said = plan.explain("backbone.1.weight")
    assert 'because       norms and scales are spared: role norm (weight of nn.LayerNorm); lr by rule 1, "back' in said
    assert "group options lr=1e-05" in said


def test_each_option_is_set_by_the_first_rule_that_names_it() -> None:
    """A rule before may decide the decay, another the learning rate, a third the momentum."""
    ordered = [
        td.rule("0.*", 0.5),
        td.rule("*.weight", lr=0.1),
        td.rule("*", td.DEFAULT, lr=0.2, momentum=0.9),
        td.rule("2.weight", lr=0.3, optional=True),
    ]
    plan = td.plan(mlp(), td.decoupled(0.1), rules=ordered)
    assert plan["0.weight"].decay == td.native(0.5)
    assert plan["2.weight"].decay == td.decoupled(0.1)
    assert plan["0.weight"].options == plan["2.weight"].options == (("lr", 0.1), ("momentum", 0.9))
    assert plan["2.bias"].options == (("lr", 0.2), ("momentum", 0.9))
    assert plan["0.weight"].reason == 'rule 1, "0.*"; lr by rule 2, "*.weight"; momentum by rule 3, "*"'


def test_a_rule_whose_options_are_all_taken_is_an_error() -> None:
    """It matches, but every option that it names is set by a rule before; the rule named is one of those."""
    ordered = [td.rule("0.*", 0.5), td.rule("*", lr=0.1), td.rule("0.weight", lr=0.2), *td.STANDARD]
    with pytest.raises(PlanError, match="never wins") as caught:
        td.plan(mlp(), 0.1, rules=ordered)
    assert 'rule 3, "0.weight"' in str(caught.value)
    assert 'rule 2, "*"' in str(caught.value)


def test_a_rule_that_fits_no_single_use_of_a_tied_weight_matches_nothing() -> None:
    """The head's name with the embedding's role is neither of the two uses."""
    with pytest.raises(PlanError, match="matches no parameter"):
        td.plan(TiedModel(), 0.1, rules=[td.rule(as_selector("head.*") & td.role("embedding"), 0.3), *td.STANDARD])


def test_what_no_rule_matches_gets_the_plans_own_decay() -> None:
    """Rules name exceptions; without any everything decays."""
    plan = td.plan(mlp(), td.l1(0.1), rules=[])
    assert {row.decay for row in plan.rows} == {td.l1(0.1)}
    assert {row.reason for row in plan.rows} == {"everything decays"}


def test_frozen_parameters_have_no_row_but_are_remembered() -> None:
    """Asking for one says that it is frozen, not that it is unknown."""
    model = mlp()
    model[0].requires_grad_(False)
    plan = td.plan(model, 0.1)
    assert plan.frozen == ("0.weight", "0.bias")
    assert "0.weight" not in plan
    with pytest.raises(PlanError, match="frozen"):
        plan["0.weight"]
    assert "frozen" in plan.explain("0.weight")


@pytest.mark.parametrize(("decay", "own"), [(0, None), (None, None), (0.1, td.native(0.1)), (1, td.native(1.0))])
def test_a_number_is_native_and_zero_is_none(decay: Any, own: Any) -> None:
    """The second argument means what `weight_decay=` means."""
    plan = td.plan(mlp(), decay)
    assert plan.decay == own
    assert plan["0.weight"].decay == own


def test_planning_touches_nothing() -> None:
    """No weight, gradient, flag, hook or random number is changed by asking what would happen."""
    model = mlp()
    model(torch.randn(2, 4)).sum().backward()
    before = copy.deepcopy(model.state_dict())
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    state = torch.get_rng_state()
    td.plan(model, td.decoupled(0.1), rules=[td.rule(td.scale_invariant(), None, optional=True), *td.STANDARD])
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(torch.equal(a, b.grad) for a, b in zip(grads, model.parameters(), strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert all(vars(p) == {} for p in model.parameters())


# ── Slips ──


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf"), "0.1", "decoupled:0.1", True, [0.1]], ids=repr)
def test_a_decay_that_is_none_is_refused_before_anything_is_read(bad: Any) -> None:
    """A coefficient from a config file, in quotes or negative, is one clear error."""
    for use in (td.plan, td.param_groups):
        with pytest.raises(DecayError):
            use(mlp(), bad)  # type: ignore[operator]


@pytest.mark.parametrize(
    "bad",
    [
        None,
        nn.Linear,
        "model",
        3,
        [],
        [nn.Linear(1, 1)],
        list(nn.Linear(1, 1).parameters()),
        nn.Linear(1, 1).parameters(),
    ],
    ids=lambda bad: repr(bad)[:30],
)
def test_what_is_no_model_is_refused(bad: Any) -> None:
    """`model.parameters()` is the commonest slip: without names and modules there is nothing to plan by."""
    for use in (td.plan, td.param_groups):
        with pytest.raises(PlanError):
            use(bad, 0.1)  # type: ignore[operator]


def test_a_model_without_trainable_parameters_is_refused() -> None:
    """Frozen whole, or empty: an optimizer over nothing is not what was meant."""
    with pytest.raises(PlanError, match="2 parameters, all frozen"):
        td.plan(nn.Linear(2, 2).requires_grad_(False), 0.1)
    with pytest.raises(PlanError, match="no parameters at all"):
        td.plan(nn.ReLU(), 0.1)


def test_a_lazy_model_is_refused_until_it_has_seen_a_batch() -> None:
    """Before that its weights have no shape, and report one dimension."""
    model = nn.Sequential(nn.LazyLinear(3), nn.LayerNorm(3))
    with pytest.raises(PlanError, match="batch") as caught:
        td.plan(model, 0.1)
    assert '"0.weight"' in str(caught.value)
    model(torch.ones(2, 4))
    assert td.plan(model, 0.1)["0.weight"].shape == (3, 4)


def test_a_rule_that_matches_nothing_is_an_error_with_the_nearest_name() -> None:
    """The rule's number, what it said, and what it may have meant."""
    with pytest.raises(PlanError) as caught:
        td.plan(Deep(4), 0.1, rules=[*td.STANDARD, td.rule("head.*", 0.3), ("*.up.wieght", 0.2)])
    text = str(caught.value)
    assert text.startswith('rule 10, "*.up.wieght", matches no parameter.')
    assert 'Nearest: "blocks.0.up.weight" (and 3 more).' in text
    assert "optional=True" in text


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([("*", 0.1), td.rule("0.*", 0.5, lr=0.2)], 'rule 2, "0.*", never wins for the decay.'),
        ([td.rule("*", lr=0.1), td.rule("0.*", 0.5, lr=0.2)], 'rule 2, "0.*", never wins for the lr.'),
        ([*td.STANDARD, td.rule("*.bias", td.DEFAULT, lr=0.2)], 'rule 9, "*.bias", never wins for the decay.'),
        (
            [td.rule("*", 0.1, lr=0.1), td.rule("0.*", 0.5, lr=0.2, momentum=0.9)],
            'rule 2, "0.*", never wins for the decay and lr.',
        ),
    ],
)
def test_a_rule_of_which_half_decides_nothing_is_an_error(rules: list[Any], said: str) -> None:
    """Decay and options are decisions apart: what a rule says of one of them must not be lost behind the other."""
    with pytest.raises(PlanError) as caught:
        td.plan(mlp(), 0.1, rules=rules)
    assert str(caught.value).startswith(said)
    assert "leave the" in str(caught.value)
    last = rules[-1]
    lenient = td.rule(last.selector, last.decay, optional=True, **dict(last.options))
    assert len(td.plan(mlp(), 0.1, rules=[*rules[:-1], lenient])) == len(td.plan(mlp(), 0.1))


def test_an_optional_rule_may_match_nothing() -> None:
    """Said by its author, it is no typo; names too."""
    quiet = [td.rule("nothing.*", 0.3, optional=True), td.rule(td.names("no.such"), None, optional=True)]
    assert td.plan(mlp(), 0.1, rules=[*quiet, *td.STANDARD]).diff(td.plan(mlp(), 0.1)).changed == ()


def test_a_shadowed_rule_is_an_error_that_names_the_rule_before_it() -> None:
    """A rule that never wins does nothing, although it matches: first match wins."""
    with pytest.raises(PlanError, match="never wins") as caught:
        td.plan(mlp(), 0.1, rules=[("0.*", 0.5), ("1.*", 0.5), ("1.weight", None)])
    assert 'rule 3, "1.weight"' in str(caught.value)
    assert 'rule 2, "1.*"' in str(caught.value)
    td.plan(mlp(), 0.1, rules=[("1.weight", None), ("0.*", 0.5), ("1.*", 0.5)])


def test_a_rule_for_frozen_parameters_only_is_an_error() -> None:
    """It would do nothing, and the reason is not a typo."""
    model = mlp()
    model[0].requires_grad_(False)
    with pytest.raises(PlanError, match="only frozen"):
        td.plan(model, 0.1, rules=[("0.*", None)])


def test_unknown_names_are_listed_with_the_nearest() -> None:
    """`td.names` is exact, so a name that the model lacks is a slip, whatever else the rule matches."""
    with pytest.raises(PlanError, match=r'Nearest: "0\.weight"'):
        td.plan(mlp(), 0.1, rules=[(td.names("2.weight", "0.wieght"), None)])


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    """`plan["wieght"]` is no bare KeyError."""
    plan = td.plan(mlp(), 0.1)
    for ask in (plan.__getitem__, plan.explain):
        with pytest.raises(PlanError, match=r'Nearest: "0\.weight"'):
            ask("0.wieght")


@pytest.mark.parametrize("bad", ["last", None, True, ""], ids=repr)
def test_tied_takes_three_words(bad: Any) -> None:
    """A word that is not known would silently mean something."""
    with pytest.raises(PlanError, match='"spare", "first" or "error"'):
        td.plan(mlp(), 0.1, tied=bad)


# ── Tied weights ──

DISAGREE = [td.rule("embed.*", None), td.rule("head.weight", 0.3)]


@pytest.mark.parametrize("head_first", [False, True])
def test_a_tied_weight_is_spared_if_any_of_its_uses_is(head_first: bool) -> None:
    """Whatever the order of the modules, and by roles as well as by rules."""
    model = TiedModel(head_first=head_first)
    for ordered in (DISAGREE, DISAGREE[::-1], td.STANDARD):
        plan = td.plan(model, 0.1, rules=ordered)
        assert plan["embed.weight"] is plan["head.weight"]
        assert plan["head.weight"].decay is None
        assert "tied" in plan["head.weight"].reason


@pytest.mark.parametrize("head_first", [False, True])
def test_tied_first_goes_by_the_first_name(head_first: bool) -> None:
    """The first name is the one that `named_parameters` gives."""
    model = TiedModel(head_first=head_first)
    plan = td.plan(model, 0.1, rules=DISAGREE, tied="first")
    assert plan.rows[0].name == next(name for name, _ in model.named_parameters())
    assert plan["embed.weight"].decay == (td.native(0.3) if head_first else None)


@pytest.mark.parametrize("tied", ["spare", "first", "error"])
@pytest.mark.parametrize("name", ["embed.weight", "head.weight"])
def test_an_option_holds_for_any_name_of_a_tied_weight(name: str, tied: Any) -> None:
    """A rule with options alone says nothing of who decays, so nothing disagrees."""
    row = td.plan(TiedModel(), 0.1, rules=[td.rule(name, lr=1e-5)], tied=tied)["head.weight"]
    assert (row.options, row.decay) == ((("lr", 1e-5),), td.native(0.1))
    spared = td.plan(TiedModel(), 0.1, rules=[td.rule("embed.*", None), td.rule(name, lr=1e-5)])["head.weight"]
    assert (spared.options, spared.decay) == ((("lr", 1e-5),), None)


def test_options_of_a_tied_weight_that_disagree_are_said_or_refused() -> None:
    """The first name's value holds."""
    rules = [td.rule("embed.*", lr=1e-5), td.rule("head.weight", lr=1e-4)]
    model = TiedModel()
    row = td.plan(model, 0.1, rules=rules).rows[0]
    assert row.options == (("lr", 1e-5 if row.name == "embed.weight" else 1e-4),)
    assert "lr=1e-05" in row.reason and "lr=0.0001" in row.reason
    with pytest.raises(PlanError, match=r"disagree(.|\n)*lr=1e-05"):
        td.plan(model, 0.1, rules=rules, tied="error")


def test_tied_error_says_who_disagrees() -> None:
    """Each use with its name, its role and what its rule would give."""
    with pytest.raises(PlanError, match="disagree") as caught:
        td.plan(TiedModel(), 0.1, rules=DISAGREE, tied="error")
    for part in ("embed.weight (embedding): None", "head.weight (weight): native(0.3)"):
        assert part in str(caught.value)


@pytest.mark.parametrize("tied", ["spare", "first", "error"])
def test_rules_that_agree_on_a_tied_weight_decide_it(tied: Any) -> None:
    """Two uses under equal decays are no disagreement."""
    plan = td.plan(TiedModel(), 0.1, rules=[td.rule("embed.*", 0.3), td.rule("head.weight", 0.3)], tied=tied)
    assert plan["head.weight"].decay == td.native(0.3)
    assert "tied" not in plan["head.weight"].reason


def test_uses_that_differ_in_an_option_disagree_too() -> None:
    """One tensor can't have two learning rates."""
    clash = [td.rule("embed.*", 0.3, lr=0.1), td.rule("head.weight", 0.3, lr=0.2)]
    with pytest.raises(PlanError, match="disagree"):
        td.plan(TiedModel(), 0.1, rules=clash, tied="error")


def test_weights_shared_between_equal_roles_keep_their_role() -> None:
    """A block used twice decays as if it were used once."""
    block = nn.Linear(3, 3)
    plan = td.plan(nn.Sequential(block, nn.ReLU(), block), 0.1)
    assert plan["0.weight"].names == ("0.weight", "2.weight")
    assert plan["0.weight"].decay == td.native(0.1)
    assert "tied" not in plan["0.weight"].reason


# ── Read it ──


def test_explain_tells_everything_about_one_parameter() -> None:
    """Name, other names, shape, role, evidence, decay, equation, reason, options."""
    plan = td.plan(TiedModel(), td.decoupled(0.1), rules=[td.rule("*.weight", td.DEFAULT, lr=0.5)])
    text = plan.explain("head.weight")
    for part in (
        "embed.weight  (5 x 3, float32, 15 elements)",
        "also called   head.weight",
        "role          embedding",
        "evidence",
        "decay         decoupled(0.1)",
        "each step     θ ← θ − η·λ·θ, then θ ← θ − u",
        'because       rule 1, "*.weight"',
        "group options lr=0.5",
    ):
        assert part in text
    assert "none: spared" in td.plan(mlp(), 0.1).explain("0.bias")
    assert "(scalar, float32, 1 elements)" in td.plan(_with_scalar(), 0.1, rules=[]).explain("scale")


def _with_scalar() -> nn.Module:
    model = nn.Module()
    model.scale = nn.Parameter(torch.tensor(1.0))
    return model


def test_a_plan_is_read_by_row_and_by_name() -> None:
    """Length, membership, rows in the model's order, and a repr that says how many decay."""
    plan = td.plan(mlp(), td.decoupled(0.1))
    assert len(plan) == 6
    assert "0.weight" in plan
    assert "0.wieght" not in plan
    assert [row.name for row in plan] == [name for name, _ in mlp().named_parameters()]
    assert list(plan) == list(plan.rows)
    assert plan["0.weight"].num_elements == 12
    assert repr(plan) == "<Plan: 2 of 6 parameters decay by decoupled(0.1), rules standard>"


def test_plans_are_values() -> None:
    """Frozen, equal by content, copied and pickled without loss: workers get the plan that was made."""
    plan = td.plan(TiedModel(), td.decoupled(0.1), rules=[td.rule("head.bias", 0.2, lr=0.1), *td.STANDARD])
    assert plan["head.bias"]  # fills the cache, which must not take part
    for other in (copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))):
        assert other == plan
        assert other.fingerprint == plan.fingerprint
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.rows = ()  # type: ignore[misc]


def test_the_description_of_a_plan_is_not_garbled_by_names() -> None:
    """An escape sequence in a module's name does not reach the terminal."""
    model = nn.Module()
    model.add_module("\x1b[2J\x07evil\u202e", nn.Linear(1, 1))
    model.add_module("größe", nn.Linear(1, 1))
    model.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
    plan = td.plan(model, 0.1)
    name = plan.rows[0].name
    with pytest.raises(PlanError) as caught:
        plan[name + "x"]
    for text in (plan.explain(name), str(caught.value)):
        assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert "größe.weight" in plan.explain("größe.weight")


# ── Fingerprint ──


def test_the_fingerprint_changes_with_who_and_form_and_not_with_how_hard() -> None:
    """A checkpoint of another plan is told from one of another coefficient."""
    base = td.plan(mlp(), td.independent(0.1, max_lr=1.0))
    same = [
        td.plan(mlp(), td.independent(0.7, max_lr=1.0)),
        td.plan(mlp(), td.independent(0.1)),
        td.plan(mlp(), td.independent(0.1, schedule=td.schedules.warmup(3))),
        td.plan(mlp(), td.independent(0.1, schedule=LAMBDA)),
        td.plan(mlp(), td.independent(0.1, max_lr=1.0), rules=[td.rule("0.weight", lr=0.5), *td.STANDARD]),
    ]
    other = [
        td.plan(mlp(), td.decoupled(0.1)),
        td.plan(mlp(), td.independent(0.1, mask=td.spare_rows(0))),
        td.plan(mlp(), td.independent(0.1), rules=[]),
        td.plan(mlp(), td.independent(0.1), rules=[td.rule("0.weight", None), *td.STANDARD]),
        td.plan(nn.Sequential(*mlp(), nn.Linear(2, 2)), td.independent(0.1)),
    ]
    assert {plan.fingerprint for plan in same} == {base.fingerprint}
    assert len({plan.fingerprint for plan in (base, *other)}) == 1 + len(other)
    assert re.fullmatch("[0-9a-f]{12}", base.fingerprint)


def test_the_fingerprint_survives_a_file() -> None:
    """Also of a plan with tensors in memory and a lambda, which a file can only describe."""
    for decay in (*DECAYS, td.toward({"0.weight": torch.ones(3, 4)}, 0.1), td.decoupled(0.1, schedule=LAMBDA)):
        plan = td.plan(mlp(), decay)
        again = td.Plan.from_json(plan.to_json(opaque=True), callables="describe")
        assert again.fingerprint == plan.fingerprint


# ── Files ──


@given(model=models(), decay=decays, ordered=rules)
def test_a_plan_comes_back_equal_from_a_file(model: nn.Module, decay: td.Decay, ordered: Any) -> None:
    """Whatever the model, the decay and the rules, JSON keeps the plan."""
    try:
        plan = td.plan(model, decay, rules=ordered)
    except DecayError:
        return
    again = td.Plan.from_json(plan.to_json(), callables="import")
    assert again == plan
    assert again.fingerprint == plan.fingerprint
    assert not plan.diff(again)
    assert again.to_json() == plan.to_json()


def test_a_plan_file_is_json_with_a_line_for_each_row() -> None:
    """A plan that is kept in a repository shows its changes line by line."""
    plan = td.plan(mlp(), td.decoupled(0.1))
    text = plan.to_json()
    data = json.loads(text)
    assert (data["format"], data["version"], data["policy"]) == ("torchdecay.plan", 1, "standard")
    assert sum('"names"' in line for line in text.splitlines()) == len(plan)
    changed = td.plan(mlp(), td.decoupled(0.1), rules=[td.rule("0.bias", None), *td.STANDARD]).to_json()
    assert len(set(text.splitlines()) ^ set(changed.splitlines())) <= 3


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", '"plan"', "{}", '{"format": "other"}', "[" * 100_000, "\x00", '{"rows": []}'],
    ids=lambda text: repr(text)[:20],
)
def test_what_is_no_plan_file_is_refused(text: str) -> None:
    """Another file, an empty one, one of another program."""
    with pytest.raises(LoadError, match="not a plan file"):
        td.Plan.from_json(text)


def test_a_truncated_file_is_refused_wherever_it_ends() -> None:
    """A disk that was full must not leave half a plan."""
    text = td.plan(mlp(), td.decoupled(0.1)).to_json()
    for end in range(0, len(text) - 1, 7):
        with pytest.raises(LoadError):
            td.Plan.from_json(text[:end])


def test_a_newer_file_asks_for_an_upgrade_and_an_older_one_to_be_made_again() -> None:
    """What is not understood is not guessed."""
    data = json.loads(td.plan(mlp(), 0.1).to_json())
    with pytest.raises(LoadError, match=r"version 2(.|\n)*Upgrade"):
        td.Plan.from_json(json.dumps(data | {"version": 2}))
    for version in (0, "1", None, [1]):
        with pytest.raises(LoadError, match="Make the plan again"):
            td.Plan.from_json(json.dumps(data | {"version": version}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rows": None}, "rows of Plan"),
        ({"rows": {}}, "rows of Plan"),
        ({"rows": ["0.weight"]}, "rows of Plan"),
        ({"decay": 0.1}, "decay of Plan"),
        ({"decay": {"type": "Decay"}}, "Decay .*lacks coefficient, site"),
        ({"frozen": "abc"}, "frozen of Plan"),
        ({"frozen": [1]}, "frozen of Plan"),
        ({"frozen": ["0.weight"]}, "twice"),
        ({"policy": 3}, "policy of Plan"),
        ({"note": "mine"}, 'no field "note"'),
    ],
    ids=str,
)
def test_a_plan_file_edited_by_hand_is_refused(change: dict[str, Any], says: str) -> None:
    """A slip in the head of the file is one LoadError that says where."""
    data = json.loads(td.plan(mlp(), td.decoupled(0.1)).to_json())
    with pytest.raises(LoadError, match=says):
        td.Plan.from_json(json.dumps(data | change))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"names": "0.weight"}, "names of Row"),
        ({"names": []}, "without a name"),
        ({"names": ["0.weight", 3]}, "names of Row"),
        ({"names": ["1.weight"]}, "twice"),
        ({"shape": [4, "3"]}, "shape of Row"),
        ({"shape": 4}, "shape of Row"),
        ({"decay": 0.1}, "decay of Row"),
        ({"decay": {"type": "L2"}}, "decay of Row"),
        ({"options": {"lr": 0.1}}, "options of Row"),
        ({"options": [["lr", 0.1, 3]]}, "options of Row"),
        ({"type": "L2"}, "L2"),
        ({"raeson": "x"}, 'Nearest: "reason"'),
        ({"role": None}, "role of Row"),
    ],
    ids=str,
)
def test_a_row_edited_by_hand_is_refused(change: dict[str, Any], says: str) -> None:
    """A slip in a row too, before anything is built from it."""
    data = json.loads(td.plan(mlp(), td.decoupled(0.1)).to_json())
    data["rows"][0] |= change
    with pytest.raises(LoadError, match=says):
        td.Plan.from_json(json.dumps(data))


def test_a_sensible_edit_is_read() -> None:
    """Changing a coefficient in the file changes that row and nothing else."""
    data = json.loads(td.plan(mlp(), td.decoupled(0.1)).to_json())
    data["rows"][0]["decay"]["coefficient"] = 1
    assert td.Plan.from_json(json.dumps(data))["0.weight"].decay == td.decoupled(1.0)


@pytest.mark.parametrize("callables", ["yes", True, "Import"])
def test_a_word_for_callables_that_is_none_imports_nothing(callables: Any) -> None:
    """What is none of the words must not fall through to the one that runs code."""
    plan = td.plan(mlp(), td.decoupled(0.1, schedule=double))
    with pytest.raises(LoadError, match='Write "refuse", "import" or "describe"'):
        td.Plan.from_json(plan.to_json(), callables=callables)


def test_callables_in_a_file_are_refused_imported_or_described() -> None:
    """Refused unless told; "describe" is enough to read and compare, "import" gives the plan itself."""
    plan = td.plan(mlp(), td.decoupled(0.1, schedule=double))
    text = plan.to_json()
    with pytest.raises(LoadError, match="examples:double"):
        td.Plan.from_json(text)
    assert td.Plan.from_json(text, callables="import") == plan
    shown = td.Plan.from_json(text, callables="describe")
    assert is_opaque(shown["0.weight"].decay)
    assert "examples:double" in str(shown.table())
    assert not plan.diff(shown)
    assert not shown.diff(plan)


def test_what_json_cannot_hold_is_refused_unless_described() -> None:
    """An opaque plan is written, read and shown; every row keeps its form."""
    for decay in (td.decoupled(0.1, schedule=LAMBDA), td.toward({"0.weight": torch.ones(3, 4)}, 0.1)):
        plan = td.plan(mlp(), decay)
        with pytest.raises(LoadError):
            plan.to_json()
        again = td.Plan.from_json(plan.to_json(opaque=True))
        assert [(row.name, row.decay is None) for row in again.rows] == [
            (row.name, row.decay is None) for row in plan.rows
        ]
        assert not plan.diff(again)


# ── Coefficients of another plan ──


def test_coefficients_are_taken_where_the_form_is_the_same() -> None:
    """Coefficient, schedule and peak come from the other plan; who and form stay."""
    mine = td.plan(mlp(), td.independent(0.1), rules=[td.rule("2.weight", td.decoupled(0.5)), *td.STANDARD])
    theirs = td.plan(mlp(), td.independent(0.3, max_lr=2.0, schedule=td.schedules.warmup(4)))
    taken = mine.with_coefficients_of(theirs)
    assert taken["0.weight"].decay == theirs["0.weight"].decay == taken.decay
    assert taken["2.weight"].decay == td.decoupled(0.5)
    assert taken.fingerprint == mine.fingerprint
    assert taken["0.bias"].decay is None


def test_a_schedule_that_was_only_described_is_not_taken() -> None:
    """The other plan's function is not there to call: mine stays, its coefficient is taken."""
    for schedule in (double, LAMBDA, td.schedules.warmup(3, then=Custom(LAMBDA))):
        mine = td.plan(mlp(), td.decoupled(0.1, schedule=schedule))
        saved = td.plan(mlp(), td.decoupled(0.4, schedule=schedule)).to_json(opaque=True)
        taken = mine.with_coefficients_of(td.Plan.from_json(saved, callables="describe"))
        assert taken["0.weight"].decay == td.decoupled(0.4, schedule=schedule)
        assert taken["0.weight"].decay.coefficient_at(2) >= 0  # it can run


def test_coefficients_of_a_saved_plan_with_tensors_are_taken() -> None:
    """A reference in memory is described in the file, and still the same form."""
    reference = {"0.weight": torch.ones(3, 4)}
    mine = td.plan(mlp(), td.toward(reference, 0.1))
    saved = td.plan(mlp(), td.toward(reference, 0.4)).to_json(opaque=True)
    taken = mine.with_coefficients_of(td.Plan.from_json(saved))
    assert taken["0.weight"].decay == td.toward(reference, 0.4)


# ── Rows from values ──


def test_a_plan_can_be_made_from_parameters_that_were_read_before() -> None:
    """A census is a value: planning it is planning the model."""
    model = Odd()
    assert td.plan(census(model), 0.1) == td.plan(model, 0.1)


def test_a_plan_can_be_made_from_a_checkpoint() -> None:
    """Names and tensors are enough, with roles from names and shapes."""
    plan = td.plan(mlp().state_dict(), 0.1, rules=td.policies.timm)
    assert [row.name for row in plan.rows] == list(mlp().state_dict())
    assert plan["0.weight"].decay == td.native(0.1)


def test_rows_count_their_elements() -> None:
    """Scalars hold one number, empty tensors none."""
    for shape, count in (((), 1), ((0, 3), 0), ((2, 3), 6)):
        assert Row(names=("a",), shape=shape, role="weight", reason="").num_elements == count


def test_how_hard_an_elastic_net_pulls_is_not_its_form() -> None:
    """A resumed run may raise l1: that is another coefficient, not another plan."""
    model = nn.Linear(4, 2)
    before, after = (td.plan(model, td.elastic_net(l1=l1, l2=0.2)) for l1 in (0.1, 0.3))
    assert before.fingerprint == after.fingerprint
    assert before.with_coefficients_of(after)["weight"].decay == td.elastic_net(l1=0.3, l2=0.2)
