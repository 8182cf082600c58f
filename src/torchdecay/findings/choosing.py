"""Which codes are wanted: codes and prefixes of codes."""

from __future__ import annotations

from collections.abc import Iterable

from torchdecay.errors import PlanError
from torchdecay.findings.rule import SPOKEN, Severity
from torchdecay.text import nearest, repr_quoted


def prefixes(given: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Codes and prefixes of codes, each of which one of those known has."""
    chosen, codes = (given,) if isinstance(given, str) else tuple(given), sorted(known)
    for prefix in chosen:
        if not isinstance(prefix, str) or not prefix or not any(code.startswith(prefix) for code in codes):
            raise PlanError(
                f"no finding has the code {repr_quoted(str(prefix))}.",
                f"Codes go from {codes[0]} to {codes[-1]}; a prefix such as {codes[0][:3]} stands for many.",
                nearest(str(prefix), codes),
            )
    return chosen


def is_wanted(code: str, chosen: tuple[str, ...], left_out: tuple[str, ...]) -> bool:
    """Whether a code is among those chosen (all when none is) and not left out."""
    return (not chosen or code.startswith(chosen)) and not code.startswith(left_out)


def as_severity(word: str) -> Severity:
    """A severity as people write it: "error", "warning", "info" or "note"."""
    spoken = {name: one for one in SPOKEN for name in (one, SPOKEN[one][0])}
    if word not in spoken:
        raise PlanError(f"there is no severity {word!r}.", fix=f"Write {', '.join(SPOKEN)}.")
    return spoken[word]
