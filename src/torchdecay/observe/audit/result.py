"""What `audit` reports, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

from torchdecay.findings.choosing import Ignore, is_wanted, patterns_of, prefixes, whole_codes
from torchdecay.findings.finding import Finding
from torchdecay.findings.result import Findings
from torchdecay.observe.audit.catalog import CATALOG

A = TypeVar("A", bound="Audit")


@dataclass(frozen=True, repr=False)
class Audit(Findings, kind="audit"):
    """`torchdecay.audit`: the findings, worst first; prints as text.

    Attributes:
        findings: what was found.
        skipped: codes that could not be looked into, with what they would need.
        nearest: where something is said of who decays, which recipe decides nearly so, in words.
    """

    findings: tuple[Finding, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    nearest: str = ""

    rules: ClassVar = CATALOG

    def filter(self: A, *, select: Iterable[str] = (), ignore: Ignore = ()) -> A:
        """The same of what could not be looked into."""
        kept = super().filter(select=select, ignore=ignore)
        chosen, left_out = prefixes(select, CATALOG), whole_codes(patterns_of(ignore, CATALOG))
        return replace(kept, skipped=tuple(one for one in self.skipped if is_wanted(one[0], chosen, left_out)))

    def __str__(self) -> str:
        left = (f"not looked into: {code} (needs {needs})" for code, needs in self.skipped)
        return "\n".join([super().__str__(), *left])
