"""Checks of the numbers that people type, shared by every value that takes one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from numbers import Integral, Real
from typing import Any

from torchdecay.errors import DecayError, TaskError, TorchdecayError
from torchdecay.text import nearest, repr_quoted


def check_number(
    value: Any,
    name: str,
    *,
    minimum: float = 0.0,
    maximum: float = math.inf,
    open_minimum: bool = False,
    error: type[TorchdecayError] = DecayError,
) -> float:
    """`value` as a float within its range.

    Raises:
        error: a bool, a string, NaN, an infinity, or a number outside `minimum` to `maximum`.
    """
    least = f"{'above' if open_minimum else 'at least'} {minimum:g}" if minimum > -math.inf else ""
    most = f"at most {maximum:g}" if maximum < math.inf else ""
    span = " and ".join(filter(None, (least, most)))
    fix = f"Give a finite number, {span}." if span else "Give a finite number."
    if isinstance(value, bool) or not isinstance(value, Real):
        with suppress(ValueError):
            fix += f" Did you mean {float(value):g}, without quotes?" if isinstance(value, str) else ""
        raise error(f"{name} is {value!r}, of type {type(value).__name__}.", "It must be a number.", fix)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isnan(number) or math.isinf(number):
        raise error(f"{name} is {number}.", "Weights would become NaN or infinite at the first step.", fix)
    below = number <= minimum if open_minimum else number < minimum
    if below or number > maximum:
        raise error(f"{name} is {number:g}, outside its range.", fix=fix)
    return number


def check_word(value: Any, name: str, words: Iterable[str], *, error: type[TorchdecayError] = DecayError) -> None:
    """Refuse what is none of the words that there are.

    Raises:
        error: with all of them, and the nearest.
    """
    known = list(words)
    if not isinstance(value, str) or value not in known:
        *others, last = map(repr_quoted, known)
        hint = nearest(value, known) if isinstance(value, str) else ""
        raise error(f"{name} is {value!r}.", fix=f"{hint} Write {', '.join(others)} or {last}.".strip())


def check_lengths(what: str, curves: Mapping[str, Sequence[float] | None]) -> None:
    """Refuse curves of one thing that are empty, or not all as long as the first; None is one that is not there."""
    lengths = {name: len(curve) for name, curve in curves.items() if curve is not None}
    first, count = next(iter(lengths.items()))
    for name, length in lengths.items():
        if length != count or not length:
            raise TaskError(f"{name} of {what} has {length} entries, and {first} has {count}.")


def store(value: object, **fields: Any) -> None:
    """Set fields of a frozen dataclass while it is made: numbers as they were checked, so that none is numpy's."""
    for name, checked in fields.items():
        object.__setattr__(value, name, checked)


_MOST = 2**63
"""No count of anything here is as large, and torch holds none."""


def check_count(value: Any, name: str, *, minimum: int = 1, error: type[TorchdecayError] = DecayError) -> int:
    """`value` as an int that is at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not minimum <= int(value) < _MOST:
        said, span = repr(value), f"at least {minimum}"
        if isinstance(value, Integral) and int(value) >= _MOST:
            said, span = "too large", f"{span} and below 2^63"
        hint = f" Write {int(value)}." if isinstance(value, float) and value.is_integer() and value < _MOST else ""
        raise error(f"{name} is {said}.", fix=f"Give a whole number, {span}.{hint}")
    return int(value)
