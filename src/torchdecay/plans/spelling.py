"""Decays as people type them on a command line: `decoupled:0.1`."""

from __future__ import annotations

import re

from torchdecay.errors import DecayError
from torchdecay.plans.decay import Decay, as_decay
from torchdecay.plans.presets import PRESETS, number_or_word
from torchdecay.text import nearest, repr_quoted

_L2 = 'Nearest: "coupled", λw added to the gradient; "penalized" adds it to the loss.'


def parse_decay(text: str) -> Decay | None:
    """The Decay that `NAME:VALUE[,KEY=VALUE...]` spells; a bare number is the optimizer's own weight_decay.

    Args:
        text: "none", "0.1", "decoupled:0.1", "independent:1e-4,max_lr=1e-3", "elastic_net:l1=1e-4,l2=0.1",
            "toward:initial,0.1".

    Raises:
        DecayError: an unknown name, a missing or unknown value, or a number outside its range.

    Example:
        >>> parse_decay("coupled:0.1")
        coupled(0.1)
    """
    text = text.strip()
    if not text:
        raise DecayError(
            'the decay is "".', "An empty word is most often a variable that is not set.", "Write none for no decay."
        )
    if text.lower() == "none":
        return None
    name, colon, rest = text.partition(":")
    name, number = name.strip(), number_or_word(name)
    if not colon and not isinstance(number, str):
        return as_decay(number)
    called = re.fullmatch(r"(\w+)\((.*)\)", text)
    if called and called[1] in PRESETS:
        # As a table prints it.
        arguments = "".join(one for one in called[2] if one not in "'\" ")
        fix = f"Write it as {called[1]}:{arguments}."
        raise DecayError(f"the decay {repr_quoted(text)} is a call.", fix=fix)
    if name not in PRESETS:
        raise DecayError(
            f"unknown decay {repr_quoted(text)}.",
            f"Known: none, a number, {', '.join(PRESETS)}.",
            (_L2 if name == "l2" else nearest(name, PRESETS)) or 'Write NAME:VALUE, such as "decoupled:0.1".',
        )
    if re.search(r"(^|,)\s*schedule\s*=", rest):
        raise DecayError(
            f"the decay {repr_quoted(text)} has a schedule.",
            "A spelling holds numbers and names, and a schedule is a function of the step.",
            "Say it in Python: td.decoupled(0.1, schedule=td.schedules.cosine(1000)).",
        )
    made: Decay = PRESETS[name].call(rest)
    return made
