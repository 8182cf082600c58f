"""Decays on a command line: what they mean there, and what is said of a slip."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torchdecay as td
from torchdecay import forms
from torchdecay.errors import DecayError
from torchdecay.plans.decay import Decay, Scale, Site
from torchdecay.plans.presets import PRESETS, form_of
from torchdecay.plans.regularizers import L1, Deviation
from torchdecay.plans.spelling import parse_decay


@pytest.mark.parametrize(
    ("text", "decay"),
    [
        ("none", None),
        ("None", None),
        ("0", None),
        ("0.1", td.native(0.1)),
        ("1e-4", td.native(1e-4)),
        (" 0.1 ", td.native(0.1)),
        ("native:0.1", td.native(0.1)),
        ("coupled:0.1", td.coupled(0.1)),
        ("decoupled:1e-2", td.decoupled(0.01)),
        ("decoupled:wd=0.1", td.decoupled(0.1)),
        (" decoupled : 0.1 ", td.decoupled(0.1)),
        ("independent:1e-4,max_lr=1e-3", td.independent(1e-4, max_lr=1e-3)),
        ("independent: 1e-4 , max_lr = 1e-3", td.independent(1e-4, max_lr=1e-3)),
        ("per_step:1e-4", td.per_step(1e-4)),
        ("per_step:fraction=1e-4", td.per_step(1e-4)),
        ("l1:1e-3", td.l1(1e-3)),
        ("elastic_net:l1=1e-4,l2=0.1", td.elastic_net(l1=1e-4, l2=0.1)),
        ("toward:initial,0.1", td.toward("initial", 0.1)),
        ("toward:reference=initial,wd=0.1", td.toward("initial", 0.1)),
        ("cautious:0.1,zero_update=spare", td.cautious(0.1, zero_update="spare")),
        ("huber:0.1,delta=0.5", forms.huber(0.1, delta=0.5)),
        ("constrained:kappa_initial=1", forms.constrained(kappa_initial=1.0)),
        ("penalized:0.1", td.penalized(0.1)),
    ],
)
def test_a_spelling_is_the_call(text: str, decay: Any) -> None:
    """NAME:VALUE,KEY=VALUE is NAME(VALUE, KEY=VALUE), and a bare number what it is in Python."""
    assert parse_decay(text) == decay


def test_a_path_may_be_spelled(tmp_path: Path) -> None:
    """A file as reference is named on the command line as in Python."""
    path = tmp_path / "weights.pt"
    torch.save({"w": torch.ones(1)}, path)
    assert parse_decay(f"toward:{path},0.1") == td.toward(path, 0.1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("decopled:0.1", 'Nearest: "decoupled"'),
        ("Decoupled:0.1", 'Nearest: "decoupled"'),
        ("adamw:0.1", "NAME:VALUE"),
        ("abc", "unknown decay"),
        ("l2:0.1", 'Nearest: "coupled"'),
        ("0,1", "unknown decay"),
        (":0.1", "unknown decay"),
        ("decoupled", r'the decay "decoupled" does not fit decoupled\(wd\)'),
        ("decoupled:", r"decoupled\(wd\)"),
        ("decoupled:0.1,0.2", r"decoupled\(wd\)"),
        ("decoupled:abc", "coefficient"),
        ("decoupled:-0.1", "outside its range"),
        ("decoupled:nan", "nan"),
        ("decoupled:inf", "inf"),
        ("decoupled:0.1,max_lr=3", "max_lr"),
        ("decoupled:wd=0.1,wd=0.2", "twice"),
        ("decoupled:0.1,wd=0.2", "multiple values"),
        ("decoupled:=0.1", "does not fit"),
        ("-0.1", "outside its range"),
        ("nan", "nan"),
        ("per_step:1.5", "outside its range"),
        ("projected:initial,1.5", "outside its range"),
        ("independent:0.1,max_lr=0", "max_lr"),
        ("elastic_net:0.1,0.2", r"elastic_net\(l1, l2\)"),
        ("elastic_net:l1=0.1", "l2"),
        ("toward:0.1", r"toward\(reference, wd\)"),
        ("toward:0.1", "Write it as toward:initial,"),
        ("decoupled(0.1)", r"Write it as decoupled:0\.1\."),
        ("toward('initial', 0.1)", r"Write it as toward:initial,0\.1\."),
        ("toward:no/such.pt,0.1", "does not exist"),
        ("cautious:0.1,zero_update=maybe", "zero_update"),
        ("", "variable that is not set"),
    ],
)
def test_a_slip_is_one_message_that_quotes_it(text: str, says: str) -> None:
    """Every wrong spelling ends in a DecayError with what to write instead, never in a traceback of Python's."""
    with pytest.raises(DecayError, match=says):
        parse_decay(text)


@pytest.mark.long
@given(
    text=st.text(max_size=30) | st.from_regex(r"(decoupled|l1|toward|elastic_net):[a-z0-9=,.e-]{0,15}", fullmatch=True)
)
def test_no_text_raises_anything_else(text: str) -> None:
    """Whatever is typed, it is a decay or a DecayError."""
    try:
        found = parse_decay(text)
    except DecayError:
        return
    assert found is None or isinstance(found, Decay)


@given(name=st.sampled_from(sorted(PRESETS)), number=st.floats(1e-9, 0.99))
def test_any_numbers_may_be_spelled(name: str, number: float) -> None:
    """With whatever numbers, the spelling of a form is its call, or the same refusal."""
    arguments: list[Any] = []
    options: dict[str, Any] = {}
    for part in PRESETS[name].example.split(","):
        key, _, value = part.rpartition("=")
        given = number if re.fullmatch(r"[\d.e-]+", value) else value
        options |= {key: given} if key else {}
        arguments += [] if key else [given]
    text = ",".join([*map(str, arguments), *(f"{key}={value}" for key, value in options.items())])
    try:
        made = PRESETS[name].make(*arguments, **options)
    except DecayError:
        with pytest.raises(DecayError):
            parse_decay(f"{name}:{text}")
    else:
        assert parse_decay(f"{name}:{text}") == made


def test_control_characters_in_a_spelling_do_not_reach_the_terminal() -> None:
    """The message quotes what was typed, with escapes in place of what would recolor or clear the screen."""
    with pytest.raises(DecayError) as caught:
        parse_decay("\x1b[2Jdecoupled:0.1")
    assert "\x1b" not in str(caught.value)


def test_axes_without_a_name_are_custom_and_print_every_axis() -> None:
    """A combination that nobody has published is still said in full."""
    decay = Decay(coefficient=0.1, site=Site.AFTER, scale=Scale.LR, regularizer=Deviation())
    assert form_of(decay) == "custom"
    for part in ("0.1", "AFTER", "LR", "Deviation"):
        assert part in repr(decay)
    assert form_of(Decay(coefficient=0.1, site=Site.BEFORE, scale=Scale.LR, regularizer=L1())) == "custom"
