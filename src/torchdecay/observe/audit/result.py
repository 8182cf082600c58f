"""What `audit` reports, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torchdecay.errors import PlanError
from torchdecay.observe.audit.catalog import CATALOG, Severity
from torchdecay.records import JsonRecord
from torchdecay.tables import Entries
from torchdecay.text import counted, listed, nearest, printable, repr_quoted

_SPOKEN: dict[Severity, tuple[str, str]] = {
    "error": ("error", "error"),
    "warning": ("warning", "warning"),
    "info": ("note", "notice"),
}
"""What people and GitHub call severities, worst first."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that `audit` found.

    Attributes:
        code: of the catalog.
        severity: "error", "warning" or "info".
        where: the optimizer and group, or the model.
        names: the parameters.
        what: what was found, with values.
        why: why it matters.
        fix: what to do.
    """

    code: str
    severity: Severity
    where: str
    names: tuple[str, ...]
    what: str
    why: str
    fix: str

    @property
    def head(self) -> str:
        """Code, place, what was found, and the names, without why and fix."""
        said = printable(f"{self.code} {self.severity}: {self.where}: {self.what}")
        return said + (f"\n    {listed(self.names)}" if self.names else "")

    def __str__(self) -> str:
        return f"{self.head}\n    {self.why}\n    {self.fix}"


@dataclass(frozen=True)
class Audit(Entries[Finding], JsonRecord, kind="audit"):
    """`torchdecay.audit`: the findings, worst first; prints as text.

    Attributes:
        findings: what was found.
        skipped: codes that could not be looked into, with what they would need.
    """

    findings: tuple[Finding, ...]
    skipped: tuple[tuple[str, str], ...] = ()

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

    def filter(self, *, select: Iterable[str] = (), ignore: Iterable[str] = ()) -> Audit:
        """Only the codes selected (all when none is), without those ignored; a prefix such as "WD3" selects many.

        Raises:
            PlanError: a prefix that no code of the catalog has.
        """
        chosen, left_out = prefixes(select), prefixes(ignore)
        return Audit(
            tuple(one for one in self.findings if is_wanted(one.code, chosen, left_out)),
            tuple(one for one in self.skipped if is_wanted(one[0], chosen, left_out)),
        )

    def to_github(self) -> str:
        """The findings as GitHub workflow commands, one line each, which become annotations."""
        return "\n".join(
            f"::{_SPOKEN[one.severity][1]} title={_escape(f'{one.code} {CATALOG[one.code].title}', more=',:')}::"
            + _escape(" ".join(filter(None, (f"{one.where}: {one.what}.", listed(one.names), one.why, one.fix))))
            for one in self.findings
        )

    def __str__(self) -> str:
        # Why and fix are the catalog's, so they stand once, after the last finding of their code.
        last = {one.code: index for index, one in enumerate(self.findings)}
        lines = [str(one) if last[one.code] == index else one.head for index, one in enumerate(self.findings)]
        severities = [one.severity for one in self.findings]
        lines.append(", ".join(counted(severities.count(one), word) for one, (word, _) in _SPOKEN.items()))
        lines += [f"not looked into: {code} (needs {needs})" for code, needs in self.skipped]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Worst first, then by code."""
    return tuple(sorted(findings, key=lambda finding: (list(_SPOKEN).index(finding.severity), finding.code)))


def prefixes(given: Iterable[str]) -> tuple[str, ...]:
    """Codes and prefixes of codes, each of which the catalog has.

    Raises:
        PlanError: one that no code begins with.
    """
    chosen = (given,) if isinstance(given, str) else tuple(given)
    for prefix in chosen:
        if not prefix or not any(code.startswith(prefix) for code in CATALOG):
            raise PlanError(
                f"no finding has the code {repr_quoted(prefix)}.",
                f"Codes go from {min(CATALOG)} to {max(CATALOG)}; a prefix such as WD3 stands for many.",
                nearest(prefix, CATALOG),
            )
    return chosen


def is_wanted(code: str, chosen: tuple[str, ...], left_out: tuple[str, ...]) -> bool:
    """Whether a code is among those chosen (all when none is) and not left out."""
    return (not chosen or code.startswith(chosen)) and not code.startswith(left_out)


def _escape(text: str, *, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
