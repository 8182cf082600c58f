"""A form of decay is declared once, and is then known wherever forms are spoken of."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from torch import nn

import torchdecay as td
from calling import torchdecay
from torchdecay.plans.decay import Decay, Scale, Site
from torchdecay.plans.presets import PRESETS, form_of, preset
from torchdecay.plans.regularizers import Huber
from torchdecay.plans.schedules import Schedule, as_schedule
from torchdecay.plans.spelling import parse_decay


@pytest.fixture
def _scratch() -> Iterator[None]:
    """A form that nobody has published: one function, with its declaration."""

    @preset("0.1,delta=3", fraction=lambda decay: decay.coefficient)
    def capped(fraction: float, *, delta: float = 1.0, schedule: Schedule | None = None) -> Decay:
        """Decoupled decay of at most so much."""
        return Decay(
            coefficient=fraction,
            site=Site.BEFORE,
            scale=Scale.LR,
            regularizer=Huber(delta),
            schedule=as_schedule(schedule),
        )

    yield
    del PRESETS["capped"]


@pytest.mark.usefixtures("_scratch")
def test_a_new_form_is_one_function() -> None:
    """Spelling, printing, listing, JSON and help know it from its declaration alone."""
    decay = parse_decay("capped:0.1,delta=3")
    assert decay == td.forms.capped(0.1, delta=3.0) == PRESETS["capped"].shown
    assert (form_of(decay), repr(decay)) == ("capped", "capped(0.1, delta=3)")
    assert repr(td.forms.capped(0.2, schedule=td.schedules.warmup(3))) == (
        "capped(0.2, schedule=warmup(3, then=constant()))"
    )
    assert "capped" in dir(td.forms)
    assert PRESETS["capped"].usage == "capped(fraction, delta)"
    assert PRESETS["capped"].summary == "Decoupled decay of at most so much."
    plan = td.plan(nn.Linear(2, 2), decay)
    assert td.Plan.from_json(plan.to_json()) == plan
    for command in ("compare", "sweep"):
        assert "capped:0.1,delta=3" in torchdecay(command, "--help").output
    assert "capped(0.1" in torchdecay("plan", "plans.examples:resnet50", "--decay", "capped:0.1").output
    with pytest.raises(td.DecayError, match="capped"):
        parse_decay("cappped:0.1")


def test_a_form_that_is_gone_is_known_nowhere() -> None:
    """The seeded fault of the test above: without the declaration nothing knows the name."""
    assert "capped" not in dir(td.forms)
    assert repr(Decay(coefficient=0.1, site=Site.BEFORE, scale=Scale.LR, regularizer=Huber(3.0))).startswith("Decay(")
    with pytest.raises(AttributeError, match="capped"):
        _ = td.forms.capped


@pytest.mark.parametrize("name", PRESETS)
def test_the_example_of_a_form_makes_it(name: str) -> None:
    """Help, tests and pages show it by its example."""
    one = PRESETS[name]
    assert form_of(one.shown) == name
    assert parse_decay(one.spelling) == one.shown
    assert one.summary
    assert getattr(td.forms, name) is one.make


@pytest.mark.parametrize("name", PRESETS)
def test_the_help_of_a_form_tells_every_argument_and_error(name: str) -> None:
    """What many forms share is said once, and still stands in the help of each, before its example."""
    one = PRESETS[name]
    _, arguments, errors, _ = re.split(r"(?m)^(?:Args|Raises|Example):$", one.make.__doc__ or "")
    assert re.findall(r"(?m)^    (\w+): \S", arguments) == list(one.parameters)
    assert "DecayError" in errors
