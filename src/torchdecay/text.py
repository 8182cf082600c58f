"""Numbers, names and errors as a person reads them: one spelling of each, for messages, tables and pages."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence

from torchdecay.errors import TorchdecayError

# ── Names ──


def printable(text: str) -> str:
    """`text` with control and invisible characters escaped, so that a name can't garble a terminal or a page."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def repr_quoted(text: str) -> str:
    """`text` in double quotes, and printable."""
    return '"' + printable(text.replace("\\", "\\\\")).replace('"', '\\"') + '"'


def shown(text: str, *, most: int = 200) -> str:
    """A name as it may stand on a page: printable, long ones cut. Escaping for HTML is the template's job."""
    spelled = printable(text)
    return spelled if len(spelled) <= most else spelled[: most - 1] + "…"


def prose(text: str) -> str:
    """Sentences as they may stand on a page: line breaks and runs of blanks become one blank."""
    return shown(" ".join(text.split()), most=2000)


def listing(parts: Sequence[str], *, most: int = 0) -> str:
    """`a, b and c`; with `most`, the rest is only counted."""
    if most and len(parts) > most:
        return f"{', '.join(parts[:most])} and {len(parts) - most} more"
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""


def listed(names: Iterable[str], *, most: int = 5) -> str:
    """`"a", "b" (and 7 more)`: names for a message, cut where they would flood it."""
    all_names = list(names)
    more = f" (and {len(all_names) - most} more)" if len(all_names) > most else ""
    return ", ".join(repr_quoted(name) for name in all_names[:most]) + more


def nearest(word: str, known: Iterable[str]) -> str:
    """`Nearest: "a", "b".` for the known words closest to `word`, or an empty string."""
    import difflib

    names = list(dict.fromkeys(known))
    close = difflib.get_close_matches(word, names, n=len(names) or 1, cutoff=0.6)
    return f"Nearest: {listed(close, most=3)}." if close else ""


def first_of(names: Sequence[str]) -> str:
    """`a +7`: the first name, and how many more there are; `-` for none."""
    return names[0] + (f" +{len(names) - 1}" if len(names) > 1 else "") if names else "-"


def group_label(optimizer: str, number: int, index: int, *, several: bool) -> str:
    """`AdamW 0`, a parameter group of the only optimizer; `AdamW 2, group 0` where there are several."""
    return f"{optimizer} {number + 1}, group {index}" if several else f"{optimizer} {index}".strip()


def capital(text: str) -> str:
    """The same with a capital at its start, the rest as it is."""
    return text[:1].upper() + text[1:]


def an(noun: str) -> str:
    """`a list`, `an int`."""
    return f"{'an' if noun[:1].lower() in 'aeio' else 'a'} {noun}"


def counted(count: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def describe_error(error: BaseException, *, where: bool = False) -> str:
    """An error as text: one of ours as it speaks, another as one line, its type and the first line of its text.

    With `where`, for the user's own code: all of its text, and the file and line.
    """
    if isinstance(error, TorchdecayError):
        return str(error)
    import traceback

    said = str(error).strip()
    text = ": ".join(filter(None, (type(error).__name__, prose(said) if where else printable(said.partition("\n")[0]))))
    frames = traceback.extract_tb(error.__traceback__) if where else None
    return f"{text} (at {frames[-1].filename}, line {frames[-1].lineno})" if frames else text


# ── Numbers ──


def spelled(value: float) -> str:
    """A number as people type it, without losing a digit: 10 for 10.0, and 0.123456789 in full."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def number(value: float, *, signed: bool = False) -> str:
    """About three digits: 0.926, 2.240, 1,340, 3.1e-05; "not a number" and "infinite" in words."""
    if math.isnan(value):
        return "not a number"
    size = abs(value)
    if math.isinf(size):
        text = "infinite"
    elif size == 0:
        return "0"
    elif size < 1e-3 or size >= 1e6:
        text = f"{size:.2g}"
    elif size < 10:
        text = f"{size:.3f}"
    else:
        text = f"{size:,.1f}" if size < 1000 else f"{size:,.0f}"
    return ("−" if value < 0 else "+" if signed else "") + text


def mean_and_spread(mean: float, spread: float | None, *, digits: int | None = None) -> str:
    """`0.926 ± 0.012`, both to the digits that the spread supports, or to `digits`; the mean alone without a spread."""
    if spread is None or not math.isfinite(spread) or not math.isfinite(mean):
        return number(mean)
    own = _digits(mean, spread)
    if own is None and digits is None:
        return f"{number(mean)} ± {number(0.0 if spread <= 1e-9 * abs(mean) else spread)}"
    digits = own if digits is None else digits
    text = f"{mean:,.{digits}f} ± " + (f"{spread:,.{digits}f}" if spread >= 5e-5 or not own else "<0.0001")
    return "−" + text[1:] if text.startswith("-") else text


def means_and_spreads(column: Sequence[tuple[float, float | None]]) -> list[str]:
    """Each mean and spread of a column, all to the digits that its least spread supports."""
    known = [(mean, spread) for mean, spread in column if spread is not None and math.isfinite(mean + spread)]
    every = [digits for mean, spread in known if (digits := _digits(mean, spread)) is not None]
    plain = all(spread <= 1e-9 * abs(mean) or _digits(mean, spread) is not None for mean, spread in known)
    digits = max(every) if every and plain else None
    return [mean_and_spread(mean, spread, digits=digits) for mean, spread in column]


def _digits(mean: float, spread: float) -> int | None:
    """The digits behind the point that a spread supports; None where it is none, or plain digits would not do."""
    if spread <= 1e-9 * abs(mean) or max(abs(mean), spread) >= 1e5 or spread < 1e-6:
        return None
    return min(4, max(0, 1 - math.floor(math.log10(spread))))


def three_digits(value: float) -> float:
    """The number with its first three digits: more can't be told apart, and people read these."""
    return float(f"{value:.3g}")


def step_count(steps: float) -> str:
    """How many steps something takes: 34,568, or three digits of few, 69.3; "never" for infinitely many."""
    if math.isinf(steps):
        return "never"
    return f"{steps:,.0f}" if steps >= 100 else f"{steps:.3g}"


def percent(share: float) -> str:
    """A share in percent, in digits that tell something, also near 0 and near 1: 31.5 %, 0.0002 %, > 99.9 %, 100 %."""
    return "> 99.9 %" if 0.999 < share < 1.0 else f"{100.0 * share:.3g} %"


def share(value: float) -> str:
    """A part of something: 34 % up to all of it, 7.23 times above; "never" for infinitely many times."""
    return percent(value) if value <= 1 else "never" if math.isinf(value) else f"{step_count(value)} times"


@functools.lru_cache(maxsize=64)
def dtype_name(dtype: object) -> str:
    """A dtype in torch's spelling without the prefix, "bfloat16" say."""
    return str(dtype).removeprefix("torch.")
