"""What is certain, written: edits of findings put into files, or shown as a diff."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from torchdecay.findings.finding import Edit, Finding
from torchdecay.integrations.lint.source import UnreadableError, parse, read_source


def mended(findings: Iterable[Finding]) -> Iterator[tuple[Path, str, str]]:
    """Each file that can be mended: its path, its text, and the text after all edits.

    A file that would be no Python afterwards is left as it is.
    """
    edits: dict[str, dict[Edit, None]] = {}
    for one in findings:
        if one.place is not None and one.edits:
            edits.setdefault(one.place.path, {}).update(dict.fromkeys(one.edits))
    for name, some in edits.items():
        path = Path(name)
        try:
            before = read_source(path, name).text
            after = _edited(before, some)
            parse(after)
        except UnreadableError:
            continue
        yield path, before, after


def _edited(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits, from the last to the first; of those that overlap the later one alone."""
    starts = [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]
    places = sorted(
        (
            (starts[one.line - 1] + one.column - 1, starts[one.end_line - 1] + one.end_column - 1, one.text)
            for one in edits
        ),
        reverse=True,
    )
    least = len(text) + 1
    for start, end, new in places:
        if end <= least:
            text, least = text[:start] + new + text[end:], start
    return text


def diff(findings: Iterable[Finding]) -> str:
    """What `write` would change, as a unified diff."""
    return "".join(
        line if line.endswith("\n") else f"{line}\n"
        for path, before, after in mended(findings)
        for line in difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{path}", f"b/{path}"
        )
    )


def write(findings: Iterable[Finding]) -> list[Path]:
    """Write the mended files in their own encoding; which ones."""
    import tokenize

    written = []
    for path, _, after in mended(list(findings)):
        with path.open("rb") as file:
            encoding, _ = tokenize.detect_encoding(file.readline)
        path.write_bytes(after.encode(encoding))
        written.append(path)
    return written
