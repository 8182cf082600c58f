"""What is meant to be as it is: codes, and parameters of a code, that are not told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from torchdecay.findings.choosing import prefixes
from torchdecay.findings.finding import Finding

Ignore = Iterable[str] | Mapping[str, Iterable[str]]
"""Codes or prefixes, or for each globs of the names of parameters."""


def patterns_of(ignore: Ignore, known: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """For each code or prefix globs of names; `*` for all.

    Raises:
        PlanError: an unknown code.
    """
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
