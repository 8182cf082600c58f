"""Checks of the numbers that people type, shared by every value that takes one."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from torchdecay.errors import DecayError


def check_number(
    value: Any, name: str, *, minimum: float = 0.0, maximum: float = math.inf, open_minimum: bool = False
) -> float:
    """`value` as a float within its range.

    Raises:
        DecayError: a bool, a string, NaN, an infinity, or a number outside `minimum` to `maximum`.
    """
    span = f"{'above' if open_minimum else 'at least'} {minimum:g}"
    span += f" and at most {maximum:g}" if maximum < math.inf else ""
    fix = f"Give a finite number, {span}."
    if isinstance(value, bool) or not isinstance(value, Real):
        hint = ""
        if isinstance(value, str):
            try:
                hint = f" Did you mean {float(value):g}, without quotes?"
            except ValueError:
                hint = ""
        raise DecayError(f"{name} is {value!r}, of type {type(value).__name__}.", "It must be a number.", fix + hint)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isnan(number) or math.isinf(number):
        raise DecayError(f"{name} is {number}.", "Weights would become NaN or infinite at the first step.", fix)
    below = number <= minimum if open_minimum else number < minimum
    if below or number > maximum:
        raise DecayError(f"{name} is {number:g}, outside its range.", fix=fix)
    return number


def check_count(value: Any, name: str, *, minimum: int = 1) -> int:
    """`value` as an int that is at least `minimum`.

    Raises:
        DecayError: anything else, bools included.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise DecayError(f"{name} is {value!r}.", fix=f"Give a whole number, at least {minimum}.")
    return int(value)
