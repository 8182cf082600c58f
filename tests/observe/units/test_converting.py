"""`convert`: each unit means what it says, and what can't be converted is refused with what is missing."""

from __future__ import annotations

import inspect
import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.errors import DecayError, UnitError
from torchdecay.observe.units.context import KEYWORDS
from torchdecay.observe.units.converting import convert
from torchdecay.observe.units.graph import UNITS

X = torch.tensor([[0.5, -1.0], [2.0, 0.25], [1.0, 1.0], [-0.5, 3.0]], dtype=torch.float64)
Y = torch.tensor([1.0, -1.0, 0.5, 2.0], dtype=torch.float64)
START = torch.tensor([0.7, -0.3], dtype=torch.float64)


def after_one_step(kind: str, value: float, lr: float = 0.1) -> torch.Tensor:
    """The weights after one step of plain SGD, with the decay carried out as this unit says it."""
    w = START.clone().requires_grad_()
    loss = ((X @ w - Y) ** 2).mean()
    penalty = {
        "penalty": lambda: value * (w**2).sum(),
        "keras_l2": lambda: value * (w**2).sum(),
        "half_penalty": lambda: value / 2 * (w**2).sum(),
        "textbook": lambda: value / (2 * len(X)) * (w**2).sum(),
    }.get(kind, lambda: 0.0)
    (loss + penalty()).backward()
    gradient = w.grad
    assert gradient is not None
    w = w.detach()
    removed = {
        "coupled": lr * value,
        "decoupled": lr * value,
        "keras_weight_decay": lr * value,
        "independent": lr / 0.4 * value,
        "corrected": lr * lr / 0.4 * value,
        "per_step": value,
    }.get(kind, 0.0)
    return w - removed * w - lr * gradient


@pytest.mark.parametrize(
    "unit",
    ["penalty", "keras_l2", "half_penalty", "textbook", "decoupled", "keras_weight_decay", "independent", "corrected",
     "per_step"],
)  # fmt: skip
def test_each_convention_takes_the_same_step(unit: str) -> None:
    """What `convert` calls equal moves the weights alike, when each is carried out as its own equation says.

    To 1e-15 of weights near 1, because sums are rounded in another order.
    """
    value = convert(0.3, "coupled", unit, lr=0.1, max_lr=0.4, num_samples=len(X), optimizer="sgd")
    torch.testing.assert_close(after_one_step(unit, value), after_one_step("coupled", 0.3), rtol=0, atol=1e-15)


def test_a_half_life_halves() -> None:
    """By multiplying; in epochs and tokens as well."""
    steps = convert(0.1, "decoupled", "half_life", lr=0.1)
    assert 0.99**69 < 0.5 < 0.99**68 and 68 < steps < 69
    known = {"lr": 0.1, "steps_per_epoch": 10, "tokens_per_step": 512, "steps": 690}
    assert convert(0.1, "decoupled", "half_life_epochs", **known) == steps / 10
    assert convert(0.1, "decoupled", "half_life_tokens", **known) == steps * 512
    assert convert(0.1, "decoupled", "timescale", **known) == pytest.approx(100)
    assert convert(0.1, "decoupled", "timescale_epochs", **known) == pytest.approx(10)
    assert convert(0.1, "decoupled", "timescale_tokens", **known) == pytest.approx(51_200)
    assert convert(0.1, "decoupled", "timescale_runs", **known) == pytest.approx(100 / 690)


def test_no_decay_has_no_end() -> None:
    """0 is an infinite half-life, and back."""
    assert convert(0.0, "decoupled", "half_life", lr=0.1) == math.inf
    assert convert(math.inf, "half_life", "decoupled", lr=0.1) == 0.0
    assert convert(math.inf, "timescale_epochs", "decoupled", lr=0.1, steps_per_epoch=3) == 0.0


def test_native_is_what_the_optimizer_makes_of_it() -> None:
    """By name, by class, or asked of the optimizer itself, whose learning rate is known too."""
    assert convert(0.1, "native", "decoupled", optimizer="adamw") == 0.1
    assert convert(0.1, "native", "penalty", optimizer=optim.Adam) == 0.05
    assert convert(0.1, "native", "penalty", optimizer="RMSprop") == 0.05
    weight = nn.Parameter(torch.zeros(2))
    assert convert(0.5, "native", "per_step", optimizer=optim.AdamW([weight], lr=0.01)) == 0.005
    assert convert(0.5, "native", "per_step", optimizer=optim.SGD([weight], lr=0.01)) == 0.005
    switched = optim.Adam([weight], lr=0.01, decoupled_weight_decay=True)
    assert convert(0.5, "native", "per_step", optimizer=switched) == 0.005


def test_a_decay_knows_its_own_unit() -> None:
    """And its peak; one name is then the target."""
    assert convert(td.decoupled(0.1), "per_step", lr=0.01) == convert(td.decoupled(0.1), target="per_step", lr=0.01)
    assert convert(td.independent(1e-4, max_lr=1e-3), "decoupled") == pytest.approx(0.1)
    assert convert(td.penalized(0.2), "penalty") == 0.1
    assert convert(td.native(0.2), "native", "penalty", optimizer="sgd") == 0.1
    assert convert(td.elastic_net(l1=0.1, l2=0.3), "elastic_net", loss="half_mse") == pytest.approx((0.4, 0.25))
    with pytest.raises(UnitError, match="the decay is decoupled, not coupled"):
        convert(td.decoupled(0.1), "coupled", "penalty")
    with pytest.raises(UnitError, match=r"max_lr=0\.01 contradicts the decay, where it is 0.001"):
        convert(td.independent(1e-4, max_lr=1e-3), "decoupled", max_lr=0.01)


@pytest.mark.parametrize(
    ("decay", "said"),
    [
        (td.cautious(0.1), "cautious.* has no unit of its own"),
        (td.toward("initial", 0.1), "toward.* has no unit of its own"),
        (td.decoupled(0.1, schedule=td.schedules.linear(1.0, 0.0, 10)), "has a schedule"),
    ],
    ids=["cautious", "toward", "schedule"],
)
def test_a_decay_that_is_no_single_number_is_refused(decay: td.Decay, said: str) -> None:
    """Rather than converted without its gate, its reference or its schedule."""
    with pytest.raises(UnitError, match=said):
        convert(decay, "per_step", lr=0.1)


def test_a_run_says_what_it_knows() -> None:
    """Also through its scheduler, whose mean is the learning rate and whose largest is the peak."""
    run = td.Run(epochs=4, batch_size=10, num_samples=100, lr=0.1, tokens_per_sample=7, accumulate=2)
    assert convert(1.0, "decoupled", "timescale_epochs", run=run) == pytest.approx(10 / 5)
    assert convert(1.0, "decoupled", "timescale_tokens", run=run) == pytest.approx(10 * 140)
    assert convert(1.0, "decoupled", "timescale_runs", run=run) == pytest.approx(10 / 20)
    falling = td.Run(steps=10, lr=0.1, lr_schedule=lambda step: 1 - step / 10)
    assert convert(1.0, "decoupled", "per_step", run=falling) == pytest.approx(0.055)
    assert convert(1.0, "decoupled", "independent", run=falling) == 0.1
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    halved = td.Run(steps=4, lr_schedule=optim.lr_scheduler.StepLR(optimizer, 2, 0.5))
    assert convert(1.0, "decoupled", "per_step", run=halved) == pytest.approx(0.15)
    unknown = td.Run(steps=4, lr_schedule=optim.lr_scheduler.ReduceLROnPlateau(optimizer))
    with pytest.raises(UnitError, match=r"needs lr\."):
        convert(1.0, "decoupled", "per_step", run=unknown)


# what is missing, unknown or contradictory


def test_all_that_is_missing_is_listed_at_once() -> None:
    """Nobody learns of the second lack only after mending the first; with how to give each."""
    with pytest.raises(UnitError) as caught:
        convert(0.1, "coupled", "half_life_epochs")
    assert caught.value.what == "coupled to half_life_epochs needs steps_per_epoch, optimizer, lr."
    assert "num_samples= and batch_size=" in caught.value.fix and 'optimizer=, such as "sgd"' in caught.value.fix
    with pytest.raises(UnitError, match="native to timescale_tokens needs optimizer, tokens_per_step, lr"):
        convert(0.1, "native", "timescale_tokens")
    with pytest.raises(UnitError, match="corrected to ridge_alpha needs lr, max_lr, num_samples, loss, optimizer"):
        convert(0.1, "corrected", "ridge_alpha")


def test_nothing_is_asked_that_is_not_used() -> None:
    """Half-lives in steps and in epochs differ by the steps of an epoch and nothing else."""
    assert convert(50, "half_life", "half_life_epochs", steps_per_epoch=10) == pytest.approx(5, rel=1e-15)
    assert convert(0.1, "decoupled", "independent", max_lr=0.5) == 0.05
    assert convert(0.1, "coupled", "penalty") == 0.05
    assert convert(0.1, "ridge_alpha", "ridge_alpha") == 0.1


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "lbfgs", optim.SGD([nn.Parameter(X)], momentum=0.5)],
                         ids=["adam", "adamw", "rmsprop", "lbfgs", "momentum"])  # fmt: skip
def test_coupled_is_not_decoupled_but_under_plain_sgd(optimizer: Any) -> None:
    """The reason is in the message."""
    with pytest.raises(UnitError, match="no number turns one into the other") as caught:
        convert(0.1, "coupled", "decoupled", optimizer=optimizer)
    assert caught.value.why and "plain SGD" in caught.value.fix


@pytest.mark.parametrize(
    ("words", "context", "said"),
    [
        (("decupled", "half_life"), {}, 'no unit "decupled"(.|\n)*Nearest: "decoupled"'),
        (("decoupled", "halflife"), {}, 'Nearest: "half_life"'),
        (("decoupled", None), {}, "lacks a unit"),
        (("l1", "coupled"), {}, "measure different things"),
        (("decoupled", "l1_l2"), {}, "measure different things"),
        (("decoupled", "per_step"), {"lrr": 1}, 'no context "lrr"(.|\n)*"lr"'),
        (("decoupled", "per_step"), {"lr": 0}, "lr is 0, outside its range"),
        (("decoupled", "per_step"), {"lr": -1e-3}, "lr is -0.001, outside its range"),
        (("decoupled", "per_step"), {"lr": "1e-3"}, "without quotes"),
        (("decoupled", "independent"), {"lr": 2.0, "max_lr": 1.0}, "lr=2 is above max_lr=1"),
        (("decoupled", "per_step"), {"optimizer": "adamm"}, 'Nearest: "adam"'),
        (("decoupled", "per_step"), {"optimizer": 3}, "optimizer is 3, of type int"),
        (("decoupled", "per_step"), {"run": 3}, "run is 3, of type int"),
        (("native", "decoupled"), {"optimizer": "lbfgs"}, "LBFGS has no weight_decay"),
        (("ridge_alpha", "coupled"), {"loss": "mes", "num_samples": 3}, 'Nearest: "mse"'),
        (("ridge_alpha", "coupled"), {"loss": "cross_entropy", "num_samples": 3}, "does not stand beside"),
        (("textbook", "coupled"), {"num_samples": 0}, "num_samples is 0"),
        (("textbook", "coupled"), {"num_samples": 2.5}, "num_samples is 2.5"),
    ],
)
def test_wrong_use_is_told(words: tuple[str, str | None], context: dict[str, Any], said: str) -> None:
    """What and where, and the nearest names for a typo."""
    with pytest.raises(UnitError, match=said):
        convert(0.1, *words, **context)


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ({"epochs": 10, "steps": 100, "steps_per_epoch": 30}, "steps=100 contradicts epochs=10 of 30"),
        ({"epochs": 10, "steps": 1000, "num_samples": 50_000, "batch_size": 128}, "which make 3910"),
        ({"steps_per_epoch": 30, "num_samples": 100, "batch_size": 10}, "steps_per_epoch=30 contradicts"),
        ({"tokens_per_step": 30, "tokens_per_sample": 4, "batch_size": 10}, "tokens_per_step=30 contradicts"),
        ({"run": td.Run(steps=10, lr=0.1), "lr": 0.2}, "lr=0.2 contradicts the run, where it is 0.1"),
        ({"run": td.Run(steps=10), "steps": 11}, "steps=11 contradicts the run"),
        ({"lr": 0.2, "optimizer": optim.SGD([nn.Parameter(X)], lr=0.1)}, "contradicts the optimizer"),
        ({"momentum": 0.9, "optimizer": optim.SGD([nn.Parameter(X)], lr=0.1)}, "momentum=0.9 contradicts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_context_that_contradicts_itself_is_refused(context: dict[str, Any], said: str) -> None:
    """With both numbers; nobody guesses which one is meant."""
    with pytest.raises(UnitError, match=said):
        convert(0.1, "decoupled", "timescale_runs", **context)


def test_dropping_the_last_batch_is_no_contradiction() -> None:
    """Loaders keep it or drop it: 390 or 391 steps."""
    for count in (390, 391):
        known = {"steps_per_epoch": count, "epochs": 10, "steps": 10 * count, "num_samples": 50_000, "batch_size": 128}
        assert convert(1.0, "timescale_epochs", "timescale", **known) == pytest.approx(count)


@pytest.mark.parametrize(
    ("value", "unit"),
    [(-0.1, "decoupled"), (math.nan, "decoupled"), (math.inf, "decoupled"), ("0.1", "decoupled"), (True, "decoupled"),
     (0, "half_life"), (-3, "timescale"), (0, "logistic_c"), (0.1, "elastic_net"), ((0.1, 1.5), "elastic_net"),
     ((0.1, -1), "l1_l2"), ((1, 2, 3), "l1_l2")],
)  # fmt: skip
def test_values_outside_their_range(value: Any, unit: str) -> None:
    """Refused in every direction, also when nothing is to be converted."""
    with pytest.raises(UnitError, match=unit):
        convert(value, unit, unit)


@pytest.mark.parametrize("target", ["per_step", "half_life", "timescale"])
def test_decay_that_flips_signs_has_no_time(target: str) -> None:
    """lr·λ = 3 takes three times the weight."""
    with pytest.raises(UnitError, match="decoupled 30 removes 3 of each weight per step"):
        convert(30, "decoupled", target, lr=0.1)
    with pytest.raises(UnitError, match=r"timescale 0\.5 removes 2 of each weight per step"):
        convert(0.5, "timescale", "decoupled", lr=0.1)
    if target == "half_life":
        with pytest.raises(UnitError, match="gone in one step"):
            convert(1.0, "per_step", target)


def test_the_docstring_names_every_keyword() -> None:
    """What `**context` takes is nowhere else to be read."""
    text = inspect.getdoc(convert) or ""
    assert [word for word in KEYWORDS if word not in text] == []


def test_every_unit_has_an_equation_of_one_line() -> None:
    """The list of units is read in a terminal."""
    assert all(unit.equation and len(unit.equation) < 100 and "\n" not in unit.equation for unit in UNITS.values())


def test_errors_are_of_one_kind() -> None:
    """Who catches UnitError catches all; a ValueError too."""
    assert issubclass(UnitError, ValueError) and not issubclass(UnitError, DecayError)


@pytest.mark.parametrize(
    "call",
    [
        lambda: td.convert(10**400, "coupled", "penalty"),
        lambda: td.convert(0.1, "coupled", "ridge_alpha", loss=[], num_samples=9),
        lambda: td.rescale(0.1, width=(1, 2), width_exponent="1"),
        lambda: td.rescale(0.1, width=(1, 10**9), width_exponent=1e3),
    ],
)
def test_odd_numbers_are_refused_in_words(call: Any) -> None:
    """Too large, of another kind, or beyond all floats: a UnitError, never what Python raises."""
    with pytest.raises(UnitError):
        call()


def test_numbers_of_other_libraries_are_numbers() -> None:
    """Fractions, whole numbers of numpy, and decays so weak that their time scale is infinite."""
    numpy = pytest.importorskip("numpy")
    assert td.convert(Fraction(1, 10), "per_step", "timescale") == 10.0
    run = td.Run(steps=numpy.int64(10), lr=1e-3, epochs=2)
    assert run.num_steps == 10 and type(run.steps) is int
    assert td.suggest(None, run=run, known=(5e-324, run)).timescale == math.inf


def test_nvidias_two_words_have_their_units() -> None:
    """Their "palm" removes lr²·λ, their "independent" λ of each weight."""
    assert convert(0.5, "palm", "per_step", lr=0.1) == pytest.approx(0.005)
    assert convert(0.5, "palm", "decoupled", lr=0.1) == pytest.approx(0.05)
    assert convert(td.per_step(0.5), "palm", lr=0.1) == pytest.approx(50.0)
