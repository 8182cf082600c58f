"""A result that is the sequence of its findings: counted, printed, held against a baseline, told to other tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar, TypeVar

from torchdecay.findings.baseline import Baseline
from torchdecay.findings.choosing import Ignore, as_severity, is_wanted, patterns_of, prefixes, spare
from torchdecay.findings.finding import Finding
from torchdecay.findings.github import command
from torchdecay.findings.rule import SPOKEN, Rule, Severity
from torchdecay.findings.sarif import log
from torchdecay.records import JsonRecord
from torchdecay.tables import Entries, Shown
from torchdecay.text import counted

F = TypeVar("F", bound="Findings")


class Findings(Entries[Finding], Shown, JsonRecord):
    """A dataclass whose `findings` are what was found, worst first or in the order of the files."""

    findings: tuple[Finding, ...]

    rules: ClassVar[Mapping[str, Rule]]
    """The catalog whose codes these are."""
    _entries: ClassVar[str] = "findings"
    _derived: ClassVar[tuple[str, ...]] = ("ok",)

    @property
    def ok(self) -> bool:
        """Whether there is neither an error nor a warning."""
        return all(finding.severity == "info" for finding in self.findings)

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes found, each once."""
        return tuple(dict.fromkeys(finding.code for finding in self.findings))

    @property
    def counts(self) -> str:
        """`2 errors, 0 warnings, 1 note`."""
        severities = [one.severity for one in self.findings]
        return ", ".join(counted(severities.count(one), word) for one, (word, _) in SPOKEN.items())

    def to_github(self) -> str:
        """The findings as GitHub workflow commands, one line each, which become annotations."""
        return "\n".join(command(one, self.rules[one.code].title) for one in self.findings)

    def to_sarif(self) -> str:
        """The findings as SARIF 2.1.0, for code scanning and editors."""
        return log(self.findings, self.rules)

    def filter(self: F, *, select: Iterable[str] = (), ignore: Ignore = ()) -> F:
        """Only the codes selected (all when none is), without what is ignored; a prefix such as "WD3" selects many.

        Args:
            select: codes or prefixes.
            ignore: codes or prefixes, or for each globs of the names that are meant so, {"WD101": ["*.gate.*"]}.

        Raises:
            PlanError: a prefix that no code of the catalog has.
        """
        chosen = prefixes(select, self.rules)
        kept = (one for one in self.findings if is_wanted(one.code, chosen, ()))
        return self._with(spare(kept, patterns_of(ignore, self.rules)))

    def without(self: F, baseline: Baseline) -> F:
        """Those that a baseline does not know."""
        return self._with(baseline.unknown(self.findings))

    def with_severity(self: F, severity: Mapping[str, Severity]) -> F:
        """The same with other severities for some codes, or prefixes of codes.

        Raises:
            PlanError: an unknown code or severity.
        """
        chosen = {prefixes((code,), self.rules)[0]: as_severity(one) for code, one in severity.items()}
        longest = sorted(chosen, key=len, reverse=True)

        def severity_of(one: Finding) -> Severity:
            return next((chosen[code] for code in longest if one.code.startswith(code)), one.severity)

        return self._with(replace(one, severity=severity_of(one)) for one in self.findings)

    def _with(self: F, findings: Iterable[Finding]) -> F:
        return replace(self, findings=tuple(findings))  # type: ignore[type-var]

    def __str__(self) -> str:
        # Why and fix are the catalog's, so they stand once, after the last finding of their code.
        last = {one.code: index for index, one in enumerate(self.findings)}
        lines = [str(one) if last[one.code] == index else one.head for index, one in enumerate(self.findings)]
        return "\n".join([*lines, self.counts])

    def __repr__(self) -> str:
        return str(self)
