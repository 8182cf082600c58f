"""Selectors: who is picked, how they combine, and what is said when nobody is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from torch import nn

import torchdecay as td
from plans.examples import models, selectors
from torchdecay.errors import DecayError, PlanError
from torchdecay.plans.census import census
from torchdecay.plans.parameters import KINDS, ROLES, Parameter
from torchdecay.plans.selectors import Selector, as_selector


def parameter(name: str = "a.weight", *more: str, shape: tuple[int, ...] = (2, 3), **rest: Any) -> Parameter:
    return Parameter(names=(name, *more), shape=shape, tensor=torch.empty(shape, device="meta"), **rest)


def picked(selector: Any, *names: str) -> list[str]:
    chosen = as_selector(selector)
    return [name for name in names if chosen.picks(parameter(name))]


# ── Each kind ──


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", ["bias", "1.weight", "11.weight", "fc.bias", "h.1.unbiased_head.weight", "fc.Bias"]),
        ("bias", ["bias"]),
        ("*.bias", ["fc.bias"]),
        ("1.weight", ["1.weight"]),
        ("*1.weight", ["1.weight", "11.weight"]),
        ("?.weight", ["1.weight"]),
        ("[0-9][0-9].weight", ["11.weight"]),
        ("*.[bB]ias", ["fc.bias", "fc.Bias"]),
        ("fc.*", ["fc.bias", "fc.Bias"]),
        ("*bias*", ["bias", "fc.bias", "h.1.unbiased_head.weight"]),
    ],
)
def test_a_glob_matches_whole_names_and_case_counts(pattern: str, names: list[str]) -> None:
    """ "1.weight" is not "11.weight", and "bias" is not "unbiased": the traps of substrings."""
    every = ["bias", "1.weight", "11.weight", "fc.bias", "h.1.unbiased_head.weight", "fc.Bias"]
    assert picked(pattern, *every) == names


def test_any_name_of_a_tied_weight_counts() -> None:
    """Which of its names torch prints first depends on the order of modules, and must not matter."""
    tied = parameter("embed.weight", "head.weight")
    assert all(as_selector(one).picks(tied) for one in ("embed.*", "head.*", td.names("head.weight")))
    assert not as_selector("body.*").picks(tied)


def test_names_are_taken_as_they_are() -> None:
    """In `td.names` no character is a wildcard."""
    assert picked(td.names("[red]x.weight"), "[red]x.weight", "rx.weight") == ["[red]x.weight"]
    assert picked(td.names("*"), "a", "*") == ["*"]


def test_a_role_or_a_kind_picks() -> None:
    """A kind (recurrent, expert, ...) is a narrower word for a weight."""
    recurrent = parameter(role="weight", kind="recurrent")
    assert td.role("weight").picks(recurrent)
    assert td.role("recurrent").picks(recurrent)
    assert td.role("bias", "recurrent").picks(recurrent)
    assert not td.role("bias", "expert").picks(recurrent)


def test_ndim_counts_dimensions() -> None:
    """A scalar has none."""
    shapes = ((), (3,), (3, 2), (3, 2, 1, 1))
    assert [td.ndim(0, 1).picks(parameter(shape=shape)) for shape in shapes] == [True, True, False, False]


def test_a_class_picks_what_it_and_its_children_own() -> None:
    """A rule for a base class holds for the classes made from it, and one for a child not for its base."""

    class Mine(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(2, 2), Mine(2, 2), nn.LayerNorm(2))
    found = {p.name for p in census(model) if as_selector(nn.Linear).picks(p)}
    assert found == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert {p.name for p in census(model) if as_selector(Mine).picks(p)} == {"1.weight", "1.bias"}


def test_exempt_is_the_models_own_wish() -> None:
    """What the model asks for, and nothing else."""
    assert td.exempt().picks(parameter(exempt="tag _no_weight_decay"))
    assert not td.exempt().picks(parameter())


def normed() -> nn.Module:
    """A convolution with a norm behind it, then a layer without."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(3, 4, 3, bias=False), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, 2))
    return model.double()


def test_scale_invariance_is_measured_from_the_gradient() -> None:
    """The weight in front of a norm is found after one backward pass; the one without a norm behind it is not."""
    model = normed()
    model(torch.randn(16, 3, 8, dtype=torch.float64)).square().sum().backward()
    found = [p.name for p in census(model) if td.scale_invariant().picks(p)]
    assert found == ["0.weight"]
    # Seeded: with a tolerance of 2 every weight would count, so the number decides.
    assert [p.name for p in census(model) if td.scale_invariant(tolerance=2.0).picks(p)] == ["0.weight", "3.weight"]


def test_scale_invariance_without_a_gradient_is_an_error() -> None:
    """It may not silently pick nothing, not even in an optional rule: nothing was measured."""
    for optional in (False, True):
        with pytest.raises(PlanError, match="backward"):
            td.plan(normed(), 0.1, rules=[td.rule(td.scale_invariant(), None, optional=optional)])


# ── Algebra ──


@given(model=models(), a=selectors, b=selectors)
def test_selectors_are_a_boolean_algebra(model: nn.Module, a: Selector, b: Selector) -> None:
    """&, | and ~ mean and, or and not, for every parameter, however they nest."""
    for p in census(model):
        x, y = a.picks(p), b.picks(p)
        assert (a & b).picks(p) == (x and y)
        assert (a | b).picks(p) == (x or y)
        assert (~a).picks(p) == (not x)
        assert (~(a & b)).picks(p) == (~a | ~b).picks(p)
        assert (~(a | b)).picks(p) == (~a & ~b).picks(p)
        assert (a & ~a).picks(p) is False
        assert (a | ~a).picks(p) is True


def test_strings_and_classes_combine_from_either_side() -> None:
    """`"*.bias" | td.role("norm")` reads as what it means, so it works."""
    norm, bias = parameter("n.weight", role="norm"), parameter("a.bias", role="bias")
    for either in ("*.bias" | td.role("norm"), td.role("norm") | "*.bias"):
        assert either.picks(norm)
        assert either.picks(bias)
    for both in ("*.bias" & td.role("bias"), td.role("bias") & "*.bias"):
        assert both.picks(bias)
        assert not both.picks(norm)
    owned = parameter(classes=("torch.nn.modules.linear.Linear",))
    assert (nn.Linear | td.role("norm")).picks(owned)
    assert (nn.Linear & td.ndim(2)).picks(owned)


def test_a_union_of_classes_is_either_of_them() -> None:
    """`nn.Linear | nn.Conv2d` is a union to Python; a rule takes it as one or the other."""
    chosen = as_selector(nn.Linear | nn.Conv2d | nn.Bilinear)
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False), nn.LayerNorm(1))
    assert [p.name for p in census(model) if chosen.picks(p)] == ["0.weight", "1.weight"]


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: td.role("bias") and td.ndim(1),
        lambda: td.role("bias") or td.ndim(1),
        lambda: not td.role("bias"),
        lambda: 1 if td.ndim(1) else 2,
    ],
)
def test_and_or_not_are_refused(misuse: Any) -> None:
    """Python would quietly keep one side of `a and b`, and the rule would pick too many."""
    with pytest.raises(PlanError, match=r"Write &, \| and ~"):
        misuse()


def test_selectors_are_values() -> None:
    """Equal by content and hashable, so that rules and policies compare."""
    make = [lambda: td.role("bias") & ~td.ndim(1), lambda: td.names("a") | "*.b", lambda: td.scale_invariant()]
    for one in make:
        assert one() == one()
        assert hash(one()) == hash(one())
    assert make[0]() != make[1]()


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        (as_selector("head.*"), '"head.*"'),
        (as_selector(nn.Linear), "Linear"),
        (td.role("bias", "norm"), 'role("bias", "norm")'),
        (td.names("a.b"), 'names("a.b")'),
        (td.ndim(0, 1), "ndim(0, 1)"),
        (td.exempt(), "exempt()"),
        (td.scale_invariant(tolerance=1e-3), "scale_invariant(tolerance=0.001)"),
        (~(td.ndim(1) & "x") | td.exempt(), '(~(ndim(1) & "x") | exempt())'),
    ],
    ids=repr,
)
def test_selectors_print_as_they_are_written(selector: Selector, text: str) -> None:
    """A rule is quoted in reasons and messages as its author wrote it."""
    assert repr(selector) == text


def test_why_says_what_spoke_for_the_pick() -> None:
    """`plan.explain` gives the reason of the side that picked, with its evidence."""
    norm = parameter("n.weight", shape=(3,), role="norm", evidence=("weight of nn.LayerNorm",))
    assert "weight of nn.LayerNorm" in td.role("norm").why(norm)
    assert (td.role("bias") | td.ndim(1)).why(norm) == "1-D"
    assert (td.role("norm") & td.ndim(1)).why(norm) == "role norm (weight of nn.LayerNorm) and 1-D"
    assert "no_weight_decay()" in td.exempt().why(parameter(exempt="no_weight_decay()"))


# ── Slips ──


def test_an_unknown_role_gets_the_nearest_and_the_list() -> None:
    """A misspelled role would pick nothing, silently, in an optional rule."""
    with pytest.raises(PlanError, match='Nearest: "embedding"') as caught:
        td.role("embeding")
    for word in (*ROLES, *KINDS):
        assert word in str(caught.value)
    assert [td.role(word).picks(parameter(role="weight", kind="matrix")) for word in ("weight", "matrix")] == [True] * 2


@pytest.mark.parametrize("bad", [(), (3,), (["bias", "norm"],), (None,), ("",)], ids=repr)
def test_a_role_is_one_or_more_known_words(bad: Any) -> None:
    """No role, a number or a list are slips."""
    with pytest.raises(PlanError):
        td.role(*bad)


@pytest.mark.parametrize("bad", [(), (-1,), (1.0,), ("1",), (True,), ([0, 1],)], ids=repr)
def test_ndim_takes_whole_numbers(bad: Any) -> None:
    """Anything else would pick nothing, silently."""
    with pytest.raises(PlanError, match="ndim"):
        td.ndim(*bad)


@pytest.mark.parametrize("bad", [(), (3,), (["a"],), (None,)], ids=repr)
def test_names_takes_strings(bad: Any) -> None:
    """A list in place of names is a slip that must not pass."""
    with pytest.raises(PlanError, match="names"):
        td.names(*bad)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), "1e-4", True], ids=repr)
def test_a_tolerance_is_a_number_above_zero(bad: Any) -> None:
    """At 0 or NaN nothing would ever be scale-invariant."""
    with pytest.raises(DecayError, match="tolerance"):
        td.scale_invariant(tolerance=bad)


@pytest.mark.parametrize(
    "bad", ["", None, 3, [nn.Linear], nn.Linear(1, 1), lambda p: True, b"*"], ids=lambda bad: type(bad).__name__
)
def test_what_is_no_selector_is_refused(bad: Any) -> None:
    """A module in place of its class, or a function, is answered with what a selector is."""
    with pytest.raises(PlanError, match="is not a selector"):
        td.rule(bad, None)
    with pytest.raises(PlanError, match="is not a selector"):
        td.ndim(1) & bad


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*.q_proj.wieght", "model.layers.0.self_attn.q_proj.weight"),
        ("model.layers.*.self_attn.q_prj.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("model.layers.7.self_attn.q_proj.weights", "model.layers.0.self_attn.q_proj.weight"),
        ("modle.embed_tokens.*", "model.embed_tokens.weight"),
        ("lm_haed.weight", "lm_head.weight"),
    ],
)
def test_a_typo_in_a_pattern_is_answered_with_the_nearest_name(pattern: str, name: str) -> None:
    """A short pattern with a wildcard is compared with the part of the name that it is about."""
    every = ["model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"]
    every += [f"model.layers.{i}.self_attn.{part}_proj.weight" for i in range(12) for part in "qkv"]
    hint = as_selector(pattern).hint([parameter(one) for one in every])
    assert f'Nearest: "{name}"' in hint


def test_nothing_near_gives_no_hint() -> None:
    """A wrong suggestion is worse than none."""
    assert as_selector("zzzz").hint([parameter("fc.weight")]) == ""


def test_a_combination_hints_at_the_side_that_picks_nothing() -> None:
    """In `"*.wieght" & role("weight")` the typo is found inside."""
    model = [parameter("fc.weight", role="weight"), parameter("fc.bias", role="bias")]
    assert 'Nearest: "fc.weight"' in ("*.wieght" & td.role("weight")).hint(model)
    assert (td.role("weight") & "*.bias").hint(model) == ""
