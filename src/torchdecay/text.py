"""Numbers and names as a person reads them, and what a chart shows as a sentence with numbers in it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence


def shown(text: str, *, most: int = 200) -> str:
    r"""A name as it may stand on a page: control, format and direction characters spelled out, long ones cut.

    Escaping for HTML is the template's job, and stays so.

    Example:
        >>> shown("a\x00b\u202ec")
        'a\\x00b\\u202ec'
    """
    spelled = "".join(
        char.encode("unicode_escape").decode("ascii") if unicodedata.category(char) in _UNSEEN else char
        for char in text
    )
    return spelled if len(spelled) <= most else spelled[: most - 1] + "…"


def prose(text: str) -> str:
    r"""Sentences as they may stand on a page: line breaks and runs of blanks become one blank.

    Example:
        >>> prose("what\n  why")
        'what why'
    """
    return shown(" ".join(text.split()), most=2000)


# Control, format (with the direction overrides), surrogate, private and unassigned; line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def number(value: float) -> str:
    """About three digits: 0.926, 2.24, 1,340, 3.1e-05; "not a number" and "infinite" in words.

    Example:
        >>> number(0.01184), number(1340.2), number(0.0), number(float("nan"))
        ('0.012', '1,340', '0', 'not a number')
    """
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite" if value > 0 else "−infinite"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e6:
        text = f"{value:.2g}"
    elif size < 10:
        text = f"{value:.3f}"
    else:
        text = f"{value:,.1f}" if size < 1000 else f"{value:,.0f}"
    return text.replace("-", "−", 1) if value < 0 else text


def mean_and_spread(mean: float, spread: float | None) -> str:
    """`0.926 ± 0.012`, both to the digits that the spread supports; the mean alone without a spread.

    Example:
        >>> mean_and_spread(0.92613, 0.0123), mean_and_spread(2.2434, None)
        ('0.926 ± 0.012', '2.243')
    """
    if spread is None or not math.isfinite(spread) or not math.isfinite(mean):
        return number(mean)
    if spread <= 1e-9 * abs(mean):
        spread = 0.0
    if spread == 0 or max(abs(mean), spread) >= 1e5 or spread < 1e-6:
        return f"{number(mean)} ± {number(spread)}"
    digits = min(4, max(0, 1 - math.floor(math.log10(spread))))
    text = f"{mean:,.{digits}f} ± " + (f"{spread:,.{digits}f}" if spread >= 5e-5 else "<0.0001")
    return "−" + text[1:] if text.startswith("-") else text


def listing(parts: Sequence[str], *, most: int = 0) -> str:
    """`a, b and c`; with `most`, the rest is only counted."""
    if most and len(parts) > most:
        return f"{', '.join(parts[:most])} and {len(parts) - most} more"
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
