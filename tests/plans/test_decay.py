"""A Decay is one pull with independent axes: it refuses what means nothing, and says what it does."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given

import torchdecay as td
from plans.examples import DECAYS, decays
from torchdecay import Decay, Scale, Site
from torchdecay.errors import DecayError, TorchdecayError
from torchdecay.plans import controllers
from torchdecay.plans.regularizers import L1
from torchdecay.plans.update_rules import Hyperball

BAD_NUMBERS = [-0.1, -1e-300, float("nan"), float("inf"), -float("inf"), "0.1", "abc", True, False, [0.1], 10**400, 1j]


# ── Numbers ──


@pytest.mark.parametrize("bad", [*BAD_NUMBERS, None, torch.tensor(0.1)], ids=repr)
def test_a_coefficient_that_is_no_number_from_zero_up_is_refused(bad: Any) -> None:
    """Every way of getting a coefficient wrong is one error, at the line that wrote it."""
    with pytest.raises(DecayError) as caught:
        Decay(coefficient=bad, site=Site.GRADIENT)
    assert isinstance(caught.value, (TorchdecayError, ValueError))
    assert "coefficient" in str(caught.value)


def test_a_number_in_quotes_is_recognized() -> None:
    """The commonest slip, a string from a config file, gets its own hint."""
    with pytest.raises(DecayError, match=r"Did you mean 0\.1, without quotes"):
        td.coupled("0.1")  # type: ignore[arg-type]


@pytest.mark.parametrize("good", [0, 1, 0.0, 1e-300, 10, 1e6, Fraction(1, 10)], ids=repr)
def test_any_finite_number_from_zero_up_is_a_coefficient(good: Any) -> None:
    """Decoupled decay of 10 is legal (learning rates are small), and 0 is no decay."""
    assert td.decoupled(good).coefficient == float(good)
    assert isinstance(td.decoupled(good).coefficient, float)


@pytest.mark.parametrize("bad", [0, *BAD_NUMBERS], ids=repr)
def test_a_peak_learning_rate_must_be_above_zero(bad: Any) -> None:
    """η/η_max at η_max = 0 is no number."""
    with pytest.raises(DecayError, match="max_lr"):
        td.independent(0.1, max_lr=bad)


# ── Axes that do not go together ──


@pytest.mark.parametrize(
    "axes",
    [
        {"site": Site.GRADIENT, "scale": Scale.LR},
        {"site": Site.LOSS, "scale": Scale.LR_RATIO},
        {"site": Site.NATIVE, "scale": Scale.LR},
        {"site": Site.BEFORE, "proximal": True},
        {"site": Site.GRADIENT, "proximal": True},
        {"site": Site.NATIVE, "regularizer": L1()},
        {"site": Site.NATIVE, "mask": td.spare_rows(0)},
        {"site": Site.NATIVE, "gate": controllers.Cautious()},
        {"site": Site.NATIVE, "controller": controllers.Stable()},
        {"site": Site.LOSS, "gate": controllers.Cautious()},
        {"site": Site.LOSS, "controller": controllers.GradientSigmoid()},
        {"site": Site.BEFORE, "coefficient": 1.5},
        {"site": Site.AFTER, "coefficient": 1.5},
    ],
    ids=str,
)
def test_axes_that_do_not_go_together_are_refused(axes: dict[str, Any]) -> None:
    """A combination without a meaning is refused, not carried out as something near it."""
    with pytest.raises(DecayError, match="means nothing"):
        Decay(**{"coefficient": 0.1} | axes)


@pytest.mark.parametrize("fraction", [1.0000001, 2, 10])
def test_a_fraction_per_step_above_one_is_refused(fraction: float) -> None:
    """It would flip the sign of every weight at every step."""
    for make in (td.per_step, lambda f: td.per_step(0.5).replace(coefficient=f)):
        with pytest.raises(DecayError):
            make(fraction)
    assert td.per_step(1).coefficient == 1.0


# ── A value ──


@pytest.mark.parametrize("decay", DECAYS, ids=repr)
def test_decays_are_values(decay: Decay) -> None:
    """Frozen, equal by content, hashable, copied and pickled without loss: a plan may hold and send them."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        decay.coefficient = 3.0  # type: ignore[misc]
    for other in (dataclasses.replace(decay), copy.deepcopy(decay), pickle.loads(pickle.dumps(decay))):
        assert (other, hash(other), repr(other)) == (decay, hash(decay), repr(decay))


def test_different_decays_are_different() -> None:
    """No two of the examples are equal, print alike or hash alike: equality looks at every axis."""
    assert len({repr(decay) for decay in DECAYS}) == len(DECAYS) == len(set(DECAYS))


@pytest.mark.parametrize("axis", [f.name for f in dataclasses.fields(Decay)])
def test_replace_changes_one_axis_only(axis: str) -> None:
    """`.replace` leaves every other axis as it was."""
    base = Decay(coefficient=0.1, site=Site.AFTER, scale=Scale.ONE if axis == "update" else Scale.LR_RATIO)
    new: Any = {
        "coefficient": 0.2,
        "site": Site.BEFORE,
        "scale": Scale.LR,
        "regularizer": L1(),
        "reference": td.toward("initial", 1).reference,
        "schedule": td.schedules.warmup(3),
        "max_lr": 0.5,
        "proximal": True,
        "update": Hyperball(),
        "gate": controllers.Cautious(),
        "controller": controllers.NormRatio(),
        "mask": td.spare_rows(0),
    }[axis]
    changed = base.replace(**{axis: new})
    assert getattr(changed, axis) == new
    assert all(getattr(changed, f.name) == getattr(base, f.name) for f in dataclasses.fields(Decay) if f.name != axis)


def test_replace_names_the_nearest_axis() -> None:
    """A misspelled axis is an error with the right spelling, not a new attribute."""
    with pytest.raises(DecayError, match='Nearest: "coefficient"'):
        td.coupled(0.1).replace(coeficient=0.2)


@given(decay=decays)
def test_the_form_forgets_how_hard_and_nothing_else(decay: Decay) -> None:
    """Two pulls of one form differ in coefficient, schedule and peak only; a plan's fingerprint stands on it."""
    other = decay.replace(coefficient=decay.coefficient / 2, schedule=td.schedules.warmup(7), max_lr=None)
    assert other.form == decay.form
    assert decay.form.form == decay.form
    hard = {axis: getattr(decay, axis) for axis in ("coefficient", "schedule", "max_lr", "regularizer")}
    assert decay.form.replace(**hard) == decay


# ── Scale ──


def test_scales_follow_the_table() -> None:
    """c_t is 1, η, η/η_max or η²/η_max."""
    assert [scale.factor(0.25, 0.5) for scale in Scale] == [1.0, 0.25, 0.5, 0.125]
    assert [scale.needs_max_lr for scale in Scale] == [False, False, True, True]


def test_a_scale_at_learning_rate_zero_is_zero_whatever_the_peak() -> None:
    """The first step of a warm-up from 0 must not divide by it, nor ask for a peak."""
    for scale in (Scale.LR, Scale.LR_RATIO, Scale.LR_SQUARED):
        assert scale.factor(0.0, None) == 0.0


def test_a_scale_without_its_peak_says_so() -> None:
    """A missing η_max is an error and not a guess."""
    with pytest.raises(DecayError, match="max_lr"):
        Scale.LR_RATIO.factor(0.1, None)


# ── Said in mathematics ──


@pytest.mark.parametrize(
    ("decay", "equation"),
    [
        (td.native(0.1), "weight_decay = λ in the optimizer's own step"),
        (td.coupled(0.1), "g ← g + λ·θ"),
        (td.decoupled(0.1), "θ ← θ − η·λ·θ, then θ ← θ − u"),
        (td.independent(0.1), "θ ← θ − η/η_max·λ·θ, then θ ← θ − u"),
        (td.per_step(0.1), "θ ← θ − λ·θ, then θ ← θ − u"),
        (td.corrected(0.1), "θ ← θ − η²/η_max·λ·θ, then θ ← θ − u"),
        (td.penalized(0.1), "L + λ·½‖θ‖²"),
        (td.toward("initial", 0.1), "θ ← θ − η·λ·(θ − ref), then θ ← θ − u"),
        (td.coupled(0.1, mask=td.spare_rows(0)), "g ← g + λ·M⊙θ"),
        (td.l1(0.1), "θ ← θ − u, then θ ← prox of η·λ·‖θ‖₁"),
        (td.cautious(0.1), "θ ← θ − η·λ·1[u⊙θ ≥ 0]⊙θ, then θ ← θ − u"),
        (Decay(coefficient=0.1, site=Site.GRADIENT, regularizer=L1()), "g ← g + λ·∇‖θ‖₁"),
        (Decay(coefficient=0.1, site=Site.AFTER), "θ ← θ − u, then θ ← θ − λ·θ"),
    ],
    ids=str,
)
def test_the_equation_is_what_the_sites_say(decay: Decay, equation: str) -> None:
    """`plan.explain` shows it, so it has to be the one of the table of sites."""
    assert decay.equation == equation


@pytest.mark.parametrize("decay", DECAYS, ids=repr)
def test_every_decay_has_an_equation(decay: Decay) -> None:
    """No form is left without mathematics, and all of it is on one line."""
    assert decay.equation
    assert "\n" not in decay.equation


def test_coefficient_at_multiplies_the_schedule() -> None:
    """λ_t = coefficient · s(t), with the learning rate's ratio handed through."""
    decay = td.decoupled(0.2, schedule=td.schedules.linear(1, 0, 4))
    assert [decay.coefficient_at(step) for step in range(5)] == [0.2, 0.2 * 0.75, 0.1, 0.05, 0.0]
    assert td.coupled(0.2, schedule=td.schedules.follow_lr()).coefficient_at(0, 0.5) == 0.1


def test_a_peak_that_nothing_divides_by_is_refused() -> None:
    """max_lr on a scale without a peak would be dropped in silence."""
    with pytest.raises(DecayError, match="max_lr"):
        td.decoupled(0.1).replace(max_lr=0.5)


@pytest.mark.parametrize("axis", ["site", "scale", "regularizer", "gate", "controller"])
def test_an_axis_of_another_type_is_refused(axis: str) -> None:
    """A string where a value belongs fails at once and not at the first step."""
    with pytest.raises(DecayError, match=axis):
        td.decoupled(0.1).replace(**{axis: "l1"})


@pytest.mark.parametrize("schedule", [0, False, td.schedules.follow_lr, td.schedules.Constant])
def test_what_is_no_schedule_is_not_taken_for_a_constant(schedule: Any) -> None:
    """0 and a function without its parentheses are slips."""
    with pytest.raises(DecayError, match="schedule"):
        td.decoupled(0.1, schedule=schedule)
