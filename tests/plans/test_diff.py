"""What differs between two plans: who came, who went, and what changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from torch import nn

import torchdecay as td
from plans.examples import LAMBDA, TiedModel, decays, double, models, rules
from torchdecay.errors import DecayError

pytestmark = pytest.mark.filterwarnings("ignore::torchdecay.UnknownRoleWarning")


def mlp(*more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), *more)


def names(rows: object) -> list[str]:
    return [row.name for row in rows]  # type: ignore[attr-defined]


def test_equal_plans_do_not_differ() -> None:
    """Nothing to say, and false: `if plan.diff(golden)` fails a build only for a reason."""
    diff = td.plan(mlp(), 0.1).diff(td.plan(mlp(), 0.1))
    assert not diff
    assert str(diff) == "no difference"


@given(model=models(), decay=decays, one=rules, two=rules)
def test_a_diff_is_empty_exactly_when_the_rows_say_the_same(
    model: nn.Module, decay: td.Decay, one: Any, two: Any
) -> None:
    """Both ways round, and with itself, whatever the rules."""
    try:
        left, right = td.plan(model, decay, rules=one), td.plan(model, decay, rules=two)
    except DecayError:
        return
    assert not left.diff(left)
    changed = {
        row.name for row in left.rows if (row.decay, row.options) != (right[row.name].decay, right[row.name].options)
    }
    for there, back in ((left, right), (right, left)):
        diff = there.diff(back)
        assert {change.name for change in diff.changed} == changed
        assert not diff.added
        assert not diff.removed
        assert bool(diff) == bool(changed)


def test_rows_that_came_and_went_are_told() -> None:
    """Another layer is an addition one way, and a removal the other."""
    small, large = td.plan(mlp(), 0.1), td.plan(mlp(nn.Linear(3, 2)), 0.1)
    there, back = small.diff(large), large.diff(small)
    assert names(there.added) == names(back.removed) == ["2.weight", "2.bias"]
    assert there.removed == back.added == there.changed == ()
    assert there
    assert back
    assert str(there) == "+ 2.weight: native(0.1)\n+ 2.bias: None"
    assert str(back) == "- 2.weight: native(0.1)\n- 2.bias: None"


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (td.plan(mlp(), 0.2), "~ 0.weight: decay native(0.1) -> native(0.2)"),
        (td.plan(mlp(), None), "~ 0.weight: decay native(0.1) -> None"),
        (td.plan(mlp(), td.decoupled(0.1)), "~ 0.weight: decay native(0.1) -> decoupled(0.1)"),
        (
            td.plan(mlp(), 0.1, rules=[td.rule("0.weight", lr=0.5), *td.STANDARD]),
            "~ 0.weight: options {} -> {'lr': 0.5}",
        ),
        (
            td.plan(nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3)), 0.1),
            "~ 0.weight: shape (3, 4) -> (3, 5)",
        ),
        (
            td.plan(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), 0.1),
            "no difference",
        ),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_a_change_says_what_was_and_what_is(other: td.Plan, line: str) -> None:
    """Decay, options, role and shape, and nothing that stayed the same."""
    assert str(td.plan(mlp(), 0.1).diff(other)) == line


def test_a_change_of_role_is_a_change() -> None:
    """The same name and shape, but no longer a norm."""
    plain = nn.Sequential(nn.Linear(4, 3), nn.PReLU(3))
    line = str(td.plan(mlp(), 0.1).diff(td.plan(plain, 0.1)))
    assert "~ 1.weight: role 'norm' -> 'scale'" in line


def test_a_weight_that_was_untied_is_a_change() -> None:
    """A head that got a weight of its own is told, and so is the row that it was."""
    model = TiedModel()
    tied = td.plan(model, 0.1)
    model.head.weight = nn.Parameter(model.head.weight.detach().clone())
    diff = tied.diff(td.plan(model, 0.1))
    assert names(diff.added) == ["head.weight"]
    assert [change.name for change in diff.changed] == ["embed.weight"]


def test_why_a_row_is_decided_is_no_difference() -> None:
    """Two rules that give the same are the same plan to the weights."""
    assert not td.plan(mlp(), 0.1).diff(td.plan(mlp(), 0.1, rules=td.policies.timm))


def test_functions_that_differ_differ_and_their_descriptions_are_compared_with_descriptions_only() -> None:
    """Two lambdas in memory are two; a file can only say how they are called."""
    one = td.plan(mlp(), td.decoupled(0.1, schedule=LAMBDA))
    two = td.plan(mlp(), td.decoupled(0.1, schedule=lambda step: 0.5))
    named = td.plan(mlp(), td.decoupled(0.1, schedule=double))
    assert one.diff(two)
    saved = td.Plan.from_json(named.to_json(), callables="describe")
    assert not named.diff(saved)
    assert not saved.diff(named)
    assert one.diff(saved)
    assert td.plan(mlp(), td.decoupled(0.2, schedule=double)).diff(saved)


def test_two_references_in_memory_are_two() -> None:
    """Tensors are not compared number by number, and equal counts of them make no equal reference."""
    plans = [td.plan(mlp(), td.toward({"0.weight": torch.ones(3, 4)}, 0.1)) for _ in range(2)]
    assert plans[0].diff(plans[1])
    assert not plans[0].diff(plans[0])


def test_names_do_not_garble_the_terminal() -> None:
    """Control characters in a name are escaped wherever a diff prints them."""
    model, other = nn.Module(), nn.Module()
    model.add_module("\x1b[31mred", nn.Linear(1, 1))
    other.add_module("\x1b[31mred", nn.Linear(2, 1))
    other.add_module("more\x07\n", nn.Linear(1, 1))
    plans = td.plan(model, 0.1), td.plan(other, 0.1)
    for diff in (plans[0].diff(plans[1]), plans[1].diff(plans[0])):
        assert not set(str(diff)) & {"\x1b", "\x07"}
        assert len(str(diff).splitlines()) == 3
