"""A file as text: Python or a notebook, its lines, and what its `noqa` comments leave out."""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torchdecay.findings.finding import Place

_VERSION = ".".join(map(str, sys.version_info[:2]))
MOST_BYTES = 8_000_000
NOQA = re.compile(r"#\s*noqa\b(?P<codes>\s*:\s*[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*)?", re.IGNORECASE)
_PYTHON_CELL = re.compile(r"\s*%%(time|timeit|capture|prun|debug)\b")
_TIMED = re.compile(r"(\s*)(%(?:time|timeit|prun)(?: +-\S*(?: +\d+)?)* +)(?=[^\s-])")
_ASSIGNED = re.compile(r"(\s*[\w.,\[\]'\" ]+=\s*)([!%](?!\s).*)")
_MAGIC = re.compile(r"(\s*)(%{1,2}(?=[A-Za-z])|!|\?{1,2}(?=\w)|%?[\w.]+\?{1,2}\s*$)")


class UnreadableError(Exception):
    """A file that can't be looked into, with the line and column where that shows."""

    def __init__(self, why: str, line: int = 1, column: int = 1, text: str = "") -> None:
        super().__init__(why)
        self.why, self.line, self.column, self.text = why, line, column, text


@dataclass(frozen=True)
class Source:
    """The text of one file, or of one notebook's cells one after the other.

    Attributes:
        path: as findings name it.
        text: Python.
        starts: for notebooks, the line of `text` at which each cell starts, and its number.
        shown: for notebooks, the same lines as they were written.
        unread: cells that are no Python.
    """

    path: str
    text: str
    starts: tuple[tuple[int, int], ...] = ()
    shown: str = ""
    unread: tuple[UnreadableError, ...] = ()

    @property
    def lines(self) -> list[str]:
        """Its lines as Python counts them: form feeds end none."""
        return re.split(r"\r\n|\n|\r", self.shown or self.text)

    def place(self, node: ast.AST, lines: list[str]) -> Place:
        """Where a node stands."""
        line, end_line = getattr(node, "lineno", 1), getattr(node, "end_lineno", 1)
        column = _characters(lines, line, getattr(node, "col_offset", 0))
        end_column = _characters(lines, end_line, getattr(node, "end_col_offset", 1))
        start, cell = next(((at, cell) for at, cell in reversed(self.starts) if at <= line), (1, 0))
        back = start - 1
        return Place(self.path, line - back, column, end_line - back, end_column, cell, lines[line - 1][:400])


def _characters(lines: list[str], line: int, offset: int) -> int:
    """A column in characters, from 1: the syntax tree counts bytes of UTF-8, from 0."""
    return len(lines[line - 1].encode()[:offset].decode(errors="replace")) + 1 if line <= len(lines) else 1


def read_source(path: Path, name: str) -> Source:
    """A file's text."""
    try:
        if path.is_symlink() and not path.exists():
            raise UnreadableError("a symbolic link to nothing")
        if not path.is_file():
            raise UnreadableError("no regular file")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise UnreadableError(f"{size / 1e6:.1f} MB, and files above {MOST_BYTES / 1e6:.0f} MB are left out")
        raw = path.read_bytes()
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    if path.suffix == ".ipynb":
        return _notebook(raw, name)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UnreadableError("its encoding is UTF-16, which Python does not read: save it as UTF-8")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        text = raw.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise UnreadableError(f"its encoding is not what it says: {error}") from error
    if text.lstrip()[:1] == "<":
        raise UnreadableError("a page or another file of markup, and no Python")
    return Source(name, text)


def _notebook(raw: bytes, name: str) -> Source:
    """The code of a notebook: what is for IPython alone is blanked, cells in other languages are left out."""
    try:
        book = json.loads(raw)
        told = book.get("metadata", {})
        language = told.get("language_info", {}).get("name") or told.get("kernelspec", {}).get("language") or "python"
        cells = [
            (number, text if isinstance(text := cell.get("source", ""), str) else "".join(text))
            for number, cell in enumerate(book["cells"], start=1)
            if cell.get("cell_type") == "code" and language.lower() in ("python", "ipython")
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnreadableError(f"no notebook: {error}") from error
    parts, shown, starts, unread, line = list[str](), list[str](), list[tuple[int, int]](), list[UnreadableError](), 1
    for number, text in cells:
        text = re.sub(r"\r\n|\r", "\n", text)
        try:
            code = _python(text)
        except UnreadableError as error:
            unread.append(
                UnreadableError(f"cell {number} is {error.why}", line + error.line - 1, error.column, error.text)
            )
            code = "\n" * text.count("\n")
        parts.append(code)
        shown.append(text)
        starts.append((line, number))
        line += code.count("\n") + 1
    return Source(name, "\n".join(parts), tuple(starts), "\n".join(shown), tuple(unread))


def _python(cell: str) -> str:
    """A cell as Python, line by line: what IPython adds becomes `pass`, what is behind `%time` stays in its place."""
    if cell.lstrip().startswith("%%") and not _PYTHON_CELL.match(cell):
        return "\n" * cell.count("\n")
    try:
        parse(cell)
        return cell
    except UnreadableError:
        lines, goes_on = list[str](), False
        for line in cell.split("\n"):
            if goes_on:
                plain = ""
            elif timed := _TIMED.match(line):
                start = f"{timed[1]}0".ljust(timed.end(2) - 2) + "; "
                plain = start + line[timed.end() :]
            elif assigned := _ASSIGNED.fullmatch(line):
                plain = f"{assigned[1]}None  # {assigned[2]}"
            else:
                plain = _MAGIC.sub(r"\1pass  # \2", line, count=1) if _MAGIC.match(line) else line
            goes_on = line.rstrip().endswith("\\") and (goes_on or plain != line)
            lines.append(plain)
        parse("\n".join(lines))
        return "\n".join(lines)


def parse(text: str) -> ast.Module:
    """The syntax tree; nothing is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        raise UnreadableError(
            f"no Python {_VERSION}: {error.msg}", error.lineno or 1, error.offset or 1, error.text or ""
        ) from error
    except (RecursionError, MemoryError) as error:
        raise UnreadableError("its expressions are nested too deep") from error
    except ValueError as error:
        raise UnreadableError(f"no Python {_VERSION}: {error}") from error


def spared(lines: list[str]) -> Iterator[tuple[int, frozenset[str]]]:
    """Lines with a `noqa`: their number, and the codes; none for all of them."""
    for number, line in enumerate(lines, start=1):
        if "noqa" in line.lower() and (found := NOQA.search(line)):
            yield number, frozenset(re.findall(r"[A-Z]+[0-9]+", (found["codes"] or "").upper()))
