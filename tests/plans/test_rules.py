"""Rules: a selector with what it gives, as people write it."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

import torchdecay as td
from torchdecay.errors import DecayError, PlanError
from torchdecay.plans.rules import as_rules


def test_a_rule_gives_what_it_says() -> None:
    """A Decay, a number, none, the plan's own, or a multiple of it."""
    own = td.decoupled(0.2)
    given = [td.rule("*", decay).resolve(own) for decay in (td.l1(0.1), 0.3, None, 0, td.DEFAULT, td.times(0.5))]
    assert given == [td.l1(0.1), td.native(0.3), None, None, own, td.decoupled(0.1)]
    assert td.rule("*").resolve(own) == own


def test_times_scales_the_coefficient_and_nothing_else() -> None:
    """Form, schedule and peak of the plan's own decay stay."""
    own = td.independent(0.2, max_lr=0.5, schedule=td.schedules.warmup(3))
    assert td.rule("*", td.times(3)).resolve(own) == own.replace(coefficient=0.2 * 3)
    assert td.rule("*", td.times(0)).resolve(own) is None
    assert td.rule("*", td.times(2)).resolve(None) is None


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), "2", True, None], ids=repr)
def test_times_takes_a_number_from_zero_up(bad: Any) -> None:
    """A negative multiple would be growth."""
    with pytest.raises(DecayError, match="times"):
        td.times(bad)


def test_times_that_lifts_a_fraction_above_one_is_refused() -> None:
    """per_step(0.6) doubled would flip signs; the plan is refused, not clipped."""
    with pytest.raises(DecayError, match="fraction"):
        td.plan(nn.Linear(2, 2), td.per_step(0.6), rules=[td.rule("weight", td.times(2)), *td.STANDARD])


@pytest.mark.parametrize("key", ["params", "param_names", "weight_decay"])
def test_what_the_plan_decides_is_no_option(key: str) -> None:
    """An option `weight_decay` would overrule the row beside it."""
    with pytest.raises(PlanError, match=key):
        td.rule("*", **{key: 0.1})
    model = nn.Linear(2, 2)
    with pytest.raises(PlanError, match=key):
        td.plan(model, 0.1).param_groups(model, **{key: 0.1})
    with pytest.raises(PlanError, match=key):
        td.param_groups(model, 0.1, **{key: 0.1})


@pytest.mark.parametrize("bad", [-1, float("nan"), "0.1", True, [], nn.Linear], ids=repr)
def test_a_decay_that_is_none_is_refused(bad: Any) -> None:
    """The rule is where the number was written, so it is where it fails."""
    with pytest.raises(DecayError):
        td.rule("*", bad)


def test_rules_are_written_in_three_ways() -> None:
    """Rules, pairs, and policies among them, in any iterable."""
    rule = td.rule("*.bias", None)
    assert as_rules([rule, ("head.*", 0.1)]) == (rule, td.rule("head.*", 0.1))
    assert as_rules(iter([rule])) == as_rules(rule) == (rule,)
    assert as_rules([*td.STANDARD]) == td.STANDARD
    assert as_rules(()) == ()


@pytest.mark.parametrize(
    "bad",
    ["standard", None, 0.1, td.policies, ["*.bias"], [("*.bias",)], [("a", 0.1, 0.2)], [["a", 0.1]], {"*.bias": None}],
    ids=lambda bad: repr(bad)[:30],
)
def test_what_is_no_list_of_rules_is_refused(bad: Any) -> None:
    """A policy's name, a module, a bare pattern or a dict is told how rules are written."""
    for use in (
        lambda: td.plan(nn.Linear(2, 2), 0.1, rules=bad),
        lambda: td.param_groups(nn.Linear(2, 2), 0.1, rules=bad),
    ):
        with pytest.raises(PlanError, match="rule"):
            use()


def test_the_message_counts_rules_from_one() -> None:
    """It names the rule that is wrong, as a reader counts."""
    with pytest.raises(PlanError, match=r"^rule 2 is"):
        as_rules([("*.bias", None), "*.weight"])


def test_rules_are_values() -> None:
    """Equal by content and hashable; the order in which options were typed does not count."""
    one, two = td.rule("a", 0.1, lr=1.0, momentum=0.9), td.rule("a", 0.1, momentum=0.9, lr=1.0)
    assert one == two
    assert hash(one) == hash(two)
    assert one != td.rule("a", 0.1, lr=1.0)
    assert td.rule("a", 0.1) != td.rule("a", 0.1, optional=True)


def test_a_rule_prints_as_it_is_written() -> None:
    """Messages quote it."""
    assert repr(td.rule("a", td.times(0.5), optional=True, lr=0.1)) == 'rule("a", times(0.5), optional=True, lr=0.1)'
    assert repr(td.rule(nn.Linear)) == "rule(Linear, DEFAULT)"
    assert repr(td.rule("a", lr=0.1)) == 'rule("a", lr=0.1)'


def test_a_row_says_whether_a_rule_of_ones_own_decided_its_decay() -> None:
    """What somebody wrote is no oversight; a policy's rule, an option and the plan's own decay are no such word."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    rules = [td.rule(td.role("norm") & "*.weight", td.l1(1e-4)), td.rule("0.bias", lr=0.1), *td.STANDARD]
    plan = td.plan(model, td.coupled(1e-4), rules=rules)
    assert {row.name: row.explicit for row in plan} == {
        "0.weight": False,
        "0.bias": False,
        "1.weight": True,
        "1.bias": False,
    }
    assert td.Plan.from_json(plan.to_json()) == plan
    own = td.plan(model, 0.1, rules=[td.rule("0.*", None), *td.policies.torch])
    assert [row.explicit for row in own] == [True, True, False, False]
