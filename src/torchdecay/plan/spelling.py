"""Decays as people type them on a command line: `decoupled:0.1`, `elastic_net:l1=1e-4,l2=0.1`, `none`."""

from __future__ import annotations

import inspect
from typing import Any

from torchdecay.errors import DecayError, nearest, repr_quoted
from torchdecay.plan.decay import Decay
from torchdecay.plan.forms import PRESETS, as_decay


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
    if text.lower() in ("none", ""):
        return None
    name, colon, rest = text.partition(":")
    if not colon:
        number = _number(name)
        if isinstance(number, float):
            return as_decay(number)
    if name not in PRESETS:
        raise DecayError(
            f"unknown decay {repr_quoted(text)}.",
            f"Known: none, a number, {', '.join(PRESETS)}.",
            nearest(name, PRESETS) or 'Write NAME:VALUE, such as "decoupled:0.1".',
        )
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if equals:
            named[key.strip()] = _number(value)
        else:
            positional.append(_number(part))
    preset = PRESETS[name]
    try:
        inspect.signature(preset).bind(*positional, **named)
    except TypeError as error:
        usage = ", ".join(
            key for key in inspect.signature(preset).parameters if key not in ("schedule", "mask")
        )
        raise DecayError(
            f"the decay {repr_quoted(text)} does not fit {name}({usage}): {error}.",
            fix=f"Write it as {name}:VALUE, or {name}:KEY=VALUE,KEY=VALUE.",
        ) from error
    return preset(*positional, **named)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip()
