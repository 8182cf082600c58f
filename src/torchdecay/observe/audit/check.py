"""How a check is written down: a function under a code, which yields hits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torchdecay.observe.audit.case import Case, Hit
from torchdecay.observe.audit.catalog import CATALOG
from torchdecay.observe.audit.result import Finding

Finder = Callable[[Case], Iterable[Hit]]


@dataclass(frozen=True)
class Check:
    """A check and what it needs beside the optimizer: "model", "plan", "run", "loss" or ""."""

    code: str
    needs: str
    hits: Finder

    def findings(self, case: Case) -> Iterator[Finding]:
        """Its hits in the catalog's words; those alike but for their names as one with all the names."""
        entry = CATALOG[self.code]
        together: dict[Hit, list[str]] = {}
        for hit in self.hits(case):
            together.setdefault(hit._replace(names=()), []).extend(hit.names)
        for hit, names in together.items():
            yield Finding(
                code=self.code,
                severity=hit.severity or entry.severity,
                where=hit.where,
                names=tuple(names),
                what=hit.what,
                why=entry.why,
                fix=entry.fix,
            )


CHECKS: list[Check] = []


def check(code: str, *, needs: str = "") -> Callable[[Finder], Finder]:
    """Decorator: this function looks for `code`."""

    def register(hits: Finder) -> Finder:
        CHECKS.append(Check(code, needs, hits))
        return hits

    return register
