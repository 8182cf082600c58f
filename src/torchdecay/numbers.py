"""Numbers as people type them: 1e5, 50_000, 124M, 0.1%."""

from __future__ import annotations

import re

from torchdecay.errors import UnitError
from torchdecay.text import repr_quoted

_SIZES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "%": 0.01, "percent": 0.01}
_NUMBER = re.compile(r"([+-]?(?:inf|infinity|nan|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))\s*([kKMBGT%]|percent)?")


def read_number(text: str, what: str = "") -> float:
    """The number that a text spells, 0.001 for 0.1%; `what` it is of is for the message."""
    found = _NUMBER.fullmatch(text.strip().replace("_", "").replace("per cent", "percent").replace("−", "-"))
    if found is None:
        if re.fullmatch(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?\s*", text):
            fix = f"Write {text.strip().replace(',', '')}."
        else:
            comma = re.fullmatch(r"\s*([+-]?\d+),(\d+)\s*", text)
            fix = f"Write {comma[1]}.{comma[2]}." if comma else "Write 0.1, 1e-3, 124M or 10%, say."
        raise UnitError(f"{what + '=' if what else ''}{repr_quoted(text)} is not a number.", fix=fix)
    size = _SIZES[found[2] or ""]
    # Dividing keeps 0.1% the float that 0.001 is.
    return float(found[1]) / 100 if size < 1 else float(found[1]) * size


def read_count(text: str, what: str = "") -> int:
    """The whole number that a text spells, 124000000 for 124M."""
    number = read_number(text, what)
    if not abs(number) < 2**63 or number != int(number):
        raise UnitError(f"{what + '=' if what else ''}{repr_quoted(text)} is not a whole number.", fix="Write 10000.")
    return int(number)
