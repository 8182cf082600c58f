"""How a check is written down: a function under a code, which yields sightings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from torchdecay.observe.audit.case import Scene
from torchdecay.observe.audit.catalog import CATALOG, Finding, Severity


@dataclass(frozen=True)
class Sighting:
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
    look: Callable[[Scene], Iterable[Sighting]]


CHECKS: list[Check] = []
Look = Callable[[Scene], Iterable[Sighting]]


def check(code: str, *, needs: str = "") -> Callable[[Look], Look]:
    """Decorator: this function looks for `code`."""

    def register(look: Look) -> Look:
        CHECKS.append(Check(code, needs, look))
        return look

    return register


def finding(code: str, sighting: Sighting) -> Finding:
    """A sighting with the catalog's words."""
    entry = CATALOG[code]
    return Finding(
        code=code,
        severity=sighting.severity or entry.severity,
        where=sighting.where,
        names=sighting.names,
        what=sighting.what,
        why=entry.why,
        fix=entry.fix,
    )


def gathered(sightings: Iterable[Sighting]) -> list[Sighting]:
    """Sightings alike but for their names, as one with all the names."""
    together: dict[Sighting, list[str]] = {}
    for one in sightings:
        together.setdefault(replace(one, names=()), []).extend(one.names)
    return [replace(one, names=tuple(names)) for one, names in together.items()]
