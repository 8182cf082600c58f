"""Which findings are told: those of the codes that are wanted, less what is meant to be as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from torchdecay.errors import PlanError
from torchdecay.findings.finding import Finding
from torchdecay.findings.rule import SPOKEN, Severity
from torchdecay.text import nearest, repr_quoted

Ignore = Iterable[str] | Mapping[str, Iterable[str]]
"""Codes or prefixes, or for each globs of the names of parameters."""


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


def patterns_of(ignore: Ignore, known: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """For each code or prefix globs of names; `*` for all."""
    if isinstance(ignore, Mapping):
        codes = prefixes(ignore, known)
        globs = ((one,) if isinstance(one, str) else tuple(one) for one in ignore.values())
        return dict(zip(codes, globs, strict=True))
    return dict.fromkeys(prefixes(ignore, known), ("*",))


def whole_codes(patterns: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The codes of which nothing is told."""
    return tuple(code for code, globs in patterns.items() if "*" in globs)


def spare(findings: Iterable[Finding], patterns: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    """The findings less the names that are meant so; one without names goes by where it is."""
    for one in findings:
        globs = [glob for code, some in patterns.items() if one.code.startswith(code) for glob in some]
        names = tuple(name for name in one.names if not any(fnmatchcase(name, glob) for glob in globs))
        gone = not names if one.names else any(fnmatchcase(one.where, glob) for glob in globs)
        if not gone:
            yield one if len(names) == len(one.names) else replace(one, names=names)
