"""What is certain, written: edits of findings put into files, or shown as a diff."""

from __future__ import annotations

import difflib
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from torchdecay.findings.finding import Edit, Finding
from torchdecay.integrations.lint.reading import findings_in
from torchdecay.integrations.lint.source import Source, UnreadableError, parse, read_source

_MOST_ROUNDS = 5


def mended(findings: Iterable[Finding], wanted: Callable[[Finding], bool]) -> Iterator[tuple[Path, str, str]]:
    """Each file that can be mended: its path, its text, and the text after all edits.

    A file that would be no Python afterwards is left as it is.

    Args:
        findings: with their edits.
        wanted: which of those that the edits lay open are mended too: the text under a key that was misspelled.
    """
    edits: dict[str, dict[Edit, None]] = {}
    for one in findings:
        if one.place is not None and one.edits:
            edits.setdefault(one.place.path, {}).update(dict.fromkeys(one.edits))
    for name, some in edits.items():
        path = Path(name)
        try:
            before = read_source(path, name).text
            after, left = before, set(some)
            for _ in range(_MOST_ROUNDS):
                after = _edited(after, left)
                parse(after)
                left = {edit for one in findings_in(Source(name, after))[0] if wanted(one) for edit in one.edits}
                if not left:
                    break
        except UnreadableError:
            continue
        yield path, before, after


def _edited(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits, from the last to the first; of those that overlap the later one alone."""
    starts = [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]
    places = [
        (starts[one.line - 1] + one.column - 1, starts[one.end_line - 1] + one.end_column - 1, one.text)
        for one in edits
    ]
    least = len(text) + 1
    for start, end, new in sorted(places, reverse=True):
        if end <= least:
            text, least = text[:start] + new + text[end:], start
    return text


def diff(files: Iterable[tuple[Path, str, str]]) -> str:
    """What `write` would change, as a unified diff: of paths as `patch -p1` takes them, here or at the root."""
    return "".join(
        line if line.endswith("\n") else f"{line}\n"
        for path, before, after in files
        for name in [(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix().lstrip("/")]
        for line in difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
        )
    )


def write(files: Iterable[tuple[Path, str, str]]) -> list[Path]:
    """Write the mended files in their own encoding; which ones."""
    written = []
    for path, _, after in files:
        with path.open("rb") as file:
            encoding, _ = tokenize.detect_encoding(file.readline)
        path.write_bytes(after.encode(encoding))
        written.append(path)
    return written
