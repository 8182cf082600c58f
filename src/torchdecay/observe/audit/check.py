"""How a check is written down: a function under a code, which yields hits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torchdecay.findings.finding import Finding, finding_of
from torchdecay.observe.audit.case import Case, Hit
from torchdecay.observe.audit.catalog import CATALOG

Finder = Callable[[Case], Iterable[Hit]]


@dataclass(frozen=True)
class Check:
    """A check, what it needs beside the optimizer ("model", "plan", "run", "loss" or ""), and what guesses without.

    One that `reads` gradients passes over those whose numbers are on other processes too.
    """

    code: str
    needs: str
    hits: Finder
    guess: Finder | None
    reads: bool = False

    def is_able(self, case: Case) -> bool:
        """Whether what it needs is there."""
        return not self.needs or case.has(self.needs)

    def findings(self, case: Case) -> Iterator[Finding]:
        """Its hits in the catalog's words; those alike but for their names as one with all the names."""
        together: dict[Hit, list[str]] = {}
        finder = self.hits if self.is_able(case) else self.guess
        for hit in finder(case) if finder is not None else ():
            together.setdefault(hit._replace(names=()), []).extend(hit.names)
        for hit, names in together.items():
            yield finding_of(CATALOG[self.code], hit.what, hit.where, severity=hit.severity, names=tuple(names))


CHECKS: list[Check] = []


def check(
    code: str, *, needs: str = "", guess: Finder | None = None, reads: bool = False
) -> Callable[[Finder], Finder]:
    """Decorator: this function looks for `code`."""

    def register(hits: Finder) -> Finder:
        CHECKS.append(Check(code, needs, hits, guess, reads))
        return hits

    return register
