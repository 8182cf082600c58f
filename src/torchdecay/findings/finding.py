"""Findings as values, and a result that is the sequence of them: chosen, counted, printed, told to GitHub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torchdecay.findings.rule import SPOKEN, Rule, Severity
from torchdecay.records import JsonRecord
from torchdecay.tables import Entries
from torchdecay.text import counted, listed, printable


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
    """

    code: str
    severity: Severity
    where: str
    names: tuple[str, ...] = ()
    what: str
    why: str
    fix: str
    place: Place | None = None

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


class Findings(Entries[Finding], JsonRecord):
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
        return "\n".join(_github(one, self.rules[one.code].title) for one in self.findings)

    def __str__(self) -> str:
        # Why and fix are the catalog's, so they stand once, after the last finding of their code.
        last = {one.code: index for index, one in enumerate(self.findings)}
        lines = [str(one) if last[one.code] == index else one.head for index, one in enumerate(self.findings)]
        return "\n".join([*lines, self.counts])

    def __repr__(self) -> str:
        return str(self)


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Worst first, then by code."""
    return tuple(sorted(findings, key=lambda finding: (list(SPOKEN).index(finding.severity), finding.code)))


def _github(one: Finding, title: str) -> str:
    """One workflow command; only what stands in a file gets a line there."""
    place, said = "", filter(None, (f"{one.where}: {one.what}.", listed(one.names), one.why, one.fix))
    if one.place is not None:
        where: dict[str, object] = {"file": one.place.path}
        if not one.place.cell:
            where |= {"line": one.place.line, "endLine": one.place.end_line, "col": one.place.column}
        place = "".join(f"{key}={_escape(str(value), more=',:')}," for key, value in where.items())
    head = _escape(f"{one.code} {title}", more=",:")
    return f"::{SPOKEN[one.severity][1]} {place}title={head}::{_escape(' '.join(said))}"


def _escape(text: str, *, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
