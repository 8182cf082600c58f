"""A finding as a value: what, where, why, what to do, and what mends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torchdecay.findings.rule import SPOKEN, Rule, Severity
from torchdecay.text import listed, printable


@dataclass(frozen=True)
class Place:
    """Where in a file: lines and columns count from 1, the end stands behind the last character.

    Attributes:
        path: as it was given, with forward slashes.
        line: of the file, or of the cell of a notebook.
        column: in characters.
        end_line: the last line.
        end_column: the first column that is no longer meant.
        cell: of a notebook, from 1; 0 elsewhere.
        text: the source line.
    """

    path: str
    line: int = 1
    column: int = 1
    end_line: int = 1
    end_column: int = 1
    cell: int = 0
    text: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{f'cell {self.cell}:' if self.cell else ''}{self.line}:{self.column}"

    @property
    def picture(self) -> str:
        """The source line, and carets below what is meant; "" where there is no line."""
        text = printable(self.text.expandtabs(1)).rstrip()
        indent = len(text) - len(text.lstrip())
        start, end = self.column - 1, self.end_column - 1 if self.end_line == self.line else len(text)
        if not text or start < indent or start >= len(text):
            return f"    {text.strip()}" if text else ""
        return f"    {text[indent:]}\n    {' ' * (start - indent)}{'^' * max(1, min(end, len(text)) - start)}"


@dataclass(frozen=True)
class Edit:
    """Text in the place of what stands from one place of a file to another; lines and columns as in `Place`."""

    line: int
    column: int
    end_line: int
    end_column: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: of the catalog.
        severity: "error", "warning" or "info".
        where: the optimizer and group, the model, or file, line and column.
        names: the parameters.
        what: what was found, with values.
        why: why it matters.
        fix: what to do.
        place: where in a source file, for findings of the lint.
        edits: what `--fix` writes, where the mend is certain.
    """

    code: str
    severity: Severity
    where: str
    names: tuple[str, ...] = ()
    what: str
    why: str
    fix: str
    place: Place | None = None
    edits: tuple[Edit, ...] = ()

    @property
    def head(self) -> str:
        """Code, place, what was found, and the names or the source line, without why and fix."""
        if self.place is not None:
            said = printable(f"{self.where}: {self.code} {SPOKEN[self.severity][0]}: {self.what}")
            return "\n".join(filter(None, (said, self.place.picture)))
        said = printable(f"{self.code} {self.severity}: {self.where}: {self.what}")
        return said + (f"\n    {listed(self.names)}" if self.names else "")

    def __str__(self) -> str:
        return f"{self.head}\n    {self.why}\n    {self.fix}"


def finding_of(rule: Rule, what: str, where: object, *, severity: Severity | None = None, **more: Any) -> Finding:
    """What was found of a rule, in its words; with its own severity, where nothing else is said."""
    said = severity or rule.severity
    own = {"code": rule.code, "severity": said, "where": str(where), "what": what, "why": rule.why, "fix": rule.fix}
    return Finding(**own | more)


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Worst first, then by code."""
    return tuple(sorted(findings, key=lambda finding: (list(SPOKEN).index(finding.severity), finding.code)))
