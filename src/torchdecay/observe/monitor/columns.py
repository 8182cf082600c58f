"""Columns of numbers as bytes of float32: frozen, compared bit by bit, and small in a file.

A column of equal numbers is one number in JSON, a short one a list, a long one base64.
"""

from __future__ import annotations

import base64
import math
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

_FLOAT = struct.Struct("f")
SHORT = 32
"""Numbers that a list in JSON may have."""


def packed(values: Iterable[float]) -> bytes:
    """Numbers as a column; what float32 can't hold becomes infinite."""
    numbers = [*values]
    try:
        return array("f", numbers).tobytes()
    except OverflowError:
        largest = float.fromhex("0x1.fffffep127")
        return array("f", [math.copysign(math.inf, x) if abs(x) > largest else x for x in numbers]).tobytes()


def unpacked(column: bytes) -> Sequence[float]:
    """The numbers of a column; a view, not a copy."""
    return memoryview(column).cast("f")


def is_empty(column: bytes) -> bool:
    """Whether nothing is known: all numbers are NaN."""
    return all(math.isnan(value) for value in unpacked(column))


def to_json(column: bytes) -> float | list[float | None] | str:
    """A column as a value for JSON, from which `from_json` makes the same bytes."""
    numbers = unpacked(column)
    if len(numbers) and math.isfinite(numbers[0]) and column == column[:4] * len(numbers):
        return short(numbers[0])
    if len(numbers) > SHORT or any(math.isinf(value) for value in numbers):
        return base64.b64encode(_little(column)).decode("ascii")
    return [None if math.isnan(value) else short(value) for value in numbers]


def from_json(value: Any, length: int) -> bytes:
    """The column that `to_json` wrote.

    Raises:
        ValueError: another length, or no column at all.
    """
    if isinstance(value, str):
        column = _little(base64.b64decode(value, validate=True))
    elif isinstance(value, list):
        try:
            column = array("f", value).tobytes()
        except (TypeError, OverflowError):
            column = packed(math.nan if one is None else float(one) for one in value)
    elif isinstance(value, (int, float)):
        column = packed([float(value)]) * length
    else:
        raise ValueError(f"{value!r} is no column")
    if len(column) != 4 * length:
        raise ValueError(f"{len(column) / 4:g} numbers where there are {length} groups")
    return column


def joined(values: Sequence[Any], length: int) -> bytes:
    """The columns of many records, one after the other; None is a column without a number.

    Raises:
        ValueError, TypeError: another length, or no column at all.
    """
    kinds = set(map(type, values))
    if kinds == {list} and set(map(len, values)) == {length}:
        numbers: Sequence[Any] = [*chain.from_iterable(values)]
        if None in numbers:
            numbers = [math.nan if number is None else number for number in numbers]
    elif kinds <= {int, float}:
        numbers = values if length == 1 else [number for number in values for _ in range(length)]
    else:
        return b"".join([from_json([None] * length if value is None else value, length) for value in values])
    try:
        return array("f", numbers).tobytes()
    except OverflowError:
        return packed(numbers)


def short(value: float) -> float:
    """The float with the fewest digits that is the same in float32."""
    exact, found = _FLOAT.pack(value), float(f"{value:.9g}")
    # Eight digits are enough as a rule, and six seldom; fewer are never enough where more are not.
    for digits in (8, 7, 6):
        candidate = float(f"{value:.{digits}g}")
        if _FLOAT.pack(candidate) != exact:
            break
        found = candidate
    return found


def _little(column: bytes) -> bytes:
    if sys.byteorder == "little":
        return column
    swapped = array("f", unpacked(column))
    swapped.byteswap()
    return swapped.tobytes()
