"""What `audit` reports, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torchdecay.findings.choosing import is_wanted, prefixes
from torchdecay.findings.finding import Finding
from torchdecay.findings.result import Findings
from torchdecay.observe.audit.catalog import CATALOG


@dataclass(frozen=True, repr=False)
class Audit(Findings, kind="audit"):
    """`torchdecay.audit`: the findings, worst first; prints as text.

    Attributes:
        findings: what was found.
        skipped: codes that could not be looked into, with what they would need.
    """

    findings: tuple[Finding, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    rules: ClassVar = CATALOG

    def filter(self, *, select: Iterable[str] = (), ignore: Iterable[str] = ()) -> Audit:
        """Only the codes selected (all when none is), without those ignored; a prefix such as "WD3" selects many.

        Raises:
            PlanError: a prefix that no code of the catalog has.
        """
        chosen, left_out = prefixes(select, CATALOG), prefixes(ignore, CATALOG)
        return Audit(
            tuple(one for one in self.findings if is_wanted(one.code, chosen, left_out)),
            tuple(one for one in self.skipped if is_wanted(one[0], chosen, left_out)),
        )

    def __str__(self) -> str:
        return "\n".join(
            [super().__str__(), *(f"not looked into: {code} (needs {needs})" for code, needs in self.skipped)]
        )
