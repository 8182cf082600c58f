"""Findings that are known, so that only new ones are told: by fingerprints that stay when lines move."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torchdecay.errors import LoadError
from torchdecay.findings.finding import Finding
from torchdecay.records import JsonRecord
from torchdecay.text import repr_quoted


@dataclass(frozen=True)
class Known:
    """A finding that is known: its fingerprint, and for people what it was."""

    fingerprint: str
    code: str
    where: str
    what: str


@dataclass(frozen=True)
class Baseline(JsonRecord, kind="baseline", again="Write it again with --update-baseline."):
    """The findings of one day; what is found beside them is new."""

    known: tuple[Known, ...]

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Baseline:
        """All of these."""
        found = tuple(findings)
        return cls(
            tuple(
                Known(mark, one.code, one.where if one.place is None else one.place.path, one.what)
                for mark, one in zip(fingerprints(found), found, strict=True)
            )
        )

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """The baseline in a file."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            said = f"the baseline {repr_quoted(str(path))} can't be read: {getattr(error, 'strerror', '') or error}."
            raise LoadError(said, fix="Write it with --update-baseline.") from error
        return cls.from_json(text)

    def write(self, path: Path) -> None:
        """Write it."""
        try:
            path.write_text(self.to_json() + "\n", encoding="utf-8")
        except OSError as error:
            said = f"the baseline {repr_quoted(str(path))} can't be written: {error.strerror}."
            raise LoadError(said, fix="Name another file with --baseline.") from error

    def unknown(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """The findings that are not in it."""
        found, known = tuple(findings), {one.fingerprint for one in self.known}
        yield from (one for mark, one in zip(fingerprints(found), found, strict=True) if mark not in known)


def fingerprints(findings: Iterable[Finding]) -> list[str]:
    """A mark for each finding: its code, its file and the text of its line, or its group and parameters.

    Lines may move; equal ones of a file are told apart by their number.
    """
    seen, marks = Counter[str](), []
    for one in findings:
        place = one.place
        where = (one.where, *sorted(one.names)) if place is None else (place.path, " ".join(place.text.split()))
        key = "\0".join((one.code, *where))
        marks.append(hashlib.sha256(f"{key}\0{seen[key]}".encode(errors="surrogatepass")).hexdigest()[:20])
        seen[key] += 1
    return marks
