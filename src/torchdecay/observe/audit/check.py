"""How a check is written down: a function under a code, which yields hits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from torchdecay.observe.audit.case import Case
from torchdecay.observe.audit.catalog import CATALOG, Severity
from torchdecay.observe.audit.result import Finding


@dataclass(frozen=True)
class Hit:
    """What a check saw: in one place, on some parameters.

    Attributes:
        where: optimizer and group, or the model.
        what: with values.
        names: the parameters.
        severity: when it differs from the catalog's.
    """

    where: str
    what: str
    names: tuple[str, ...] = ()
    severity: Severity | None = None


@dataclass(frozen=True)
class Check:
    """A check and what it needs beside the optimizer: "model", "plan", "run", "loss" or ""."""

    code: str
    needs: str
    hits: Callable[[Case], Iterable[Hit]]


CHECKS: list[Check] = []
Finder = Callable[[Case], Iterable[Hit]]


def check(code: str, *, needs: str = "") -> Callable[[Finder], Finder]:
    """Decorator: this function looks for `code`."""

    def register(hits: Finder) -> Finder:
        CHECKS.append(Check(code, needs, hits))
        return hits

    return register


def finding(code: str, hit: Hit) -> Finding:
    """A hit with the catalog's words."""
    entry = CATALOG[code]
    return Finding(
        code=code,
        severity=hit.severity or entry.severity,
        where=hit.where,
        names=hit.names,
        what=hit.what,
        why=entry.why,
        fix=entry.fix,
    )


def gathered(hits: Iterable[Hit]) -> list[Hit]:
    """Hits alike but for their names, as one with all the names."""
    together: dict[Hit, list[str]] = {}
    for one in hits:
        together.setdefault(replace(one, names=()), []).extend(one.names)
    return [replace(one, names=tuple(names)) for one, names in together.items()]
