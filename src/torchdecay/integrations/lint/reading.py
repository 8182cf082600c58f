"""One file: its findings, and what it says about the project."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from torchdecay.findings.finding import Edit, Finding, Place, finding_of
from torchdecay.findings.rule import Rule
from torchdecay.integrations.lint.code import Code
from torchdecay.integrations.lint.project import UNREAD, Facts, facts_of, words_of
from torchdecay.integrations.lint.rule import CHECKS, UNREADABLE, Hit
from torchdecay.integrations.lint.source import Source, UnreadableError, parse, read_source, spared
from torchdecay.records import collecting_later

_WORTH = re.compile(
    r"""weight[_-]decay|\.(?:named_)?parameters\s*\(|no_decay|param_groups|["']params["']|\bparams=|yaml\.|--wd"""
)
"""A file without any of these is parsed, and looked into no further: no rule finds anything there."""


def read_file(path: Path) -> tuple[list[Finding], Facts]:
    """Every finding of a file, and what it says about the project."""
    name = name_of(path)
    # Trees hold no circles: what they hold goes at once, and the collector would walk them in vain.
    with collecting_later():
        try:
            return findings_in(read_source(path, name))
        except RecursionError:
            return [_unreadable(name, UnreadableError("its expressions are nested too deep"))], Facts()
        except UnreadableError as error:
            return [_unreadable(name, error)], Facts()


def findings_in(source: Source) -> tuple[list[Finding], Facts]:
    """The same of a text; raises UnreadableError, and RecursionError for what is nested too deep."""
    tree, unread = parse(source.text), [_unread(source, one) for one in source.unread]
    if not _WORTH.search(source.text):
        return unread, words_of(source.text)
    code = Code(tree, source.text)
    hits = [(check.rule, hit) for check in CHECKS for hit in check.hits(code)]
    facts, declared = facts_of(code)
    hits += [(UNREAD, hit) for hit in declared]
    findings = [*_findings(source, code, hits), *unread]
    # Each names its option first.
    options = tuple((one.what.split('"')[1], one) for one in findings if one.code == UNREAD.code)
    return [one for one in findings if one.code != UNREAD.code], replace(facts, declared=options)


def _findings(source: Source, code: Code, hits: list[tuple[Rule, Hit]]) -> Iterator[Finding]:
    """The hits in words, in the order of the file, less those that a noqa takes out."""
    lines = source.lines
    left_out = dict(spared(lines))
    placed = [(source.place(hit.node, lines), rule, hit) for rule, hit in hits]
    for place, rule, hit in sorted(placed, key=lambda one: (one[0].cell, one[0].line, one[0].column, one[1].code)):
        start: int = hit.node.lineno  # type: ignore[attr-defined]
        span = {*range(start, start + place.end_line - place.line + 1), _last_line(code, hit.node)}
        codes = [left_out[line] for line in span if line in left_out]
        if not any(not some or rule.code.startswith(tuple(some)) for some in codes):
            mends = () if place.cell else hit.edits
            edits = tuple(_edit(source.place(one.node, lines), one.text) for one in mends)
            yield finding_of(rule, hit.what, place, severity=hit.severity, place=place, edits=edits)


def _last_line(code: Code, node: ast.AST) -> int:
    """Where the statement ends that a node stands in; 0 where it holds others."""
    statement = code.statement(node)
    return 0 if statement is None or hasattr(statement, "body") else statement.end_lineno or 0


def _edit(place: Place, text: str) -> Edit:
    return Edit(place.line, place.column, place.end_line, place.end_column, text)


def _unreadable(name: str, error: UnreadableError) -> Finding:
    text = error.text.rstrip("\r\n")[:400]
    place = Place(name, error.line, error.column, error.line, error.column + 1, text=text)
    return finding_of(UNREADABLE, error.why, place, place=place)


def _unread(source: Source, cell: UnreadableError) -> Finding:
    """A note of a cell that is no Python."""
    node = ast.Pass(lineno=cell.line, end_lineno=cell.line, col_offset=cell.column - 1, end_col_offset=cell.column)
    place = source.place(node, source.lines)
    return finding_of(UNREADABLE, cell.why, place, severity="info", place=place)


def name_of(path: Path) -> str:
    """A path as findings say it: from the current folder, where it is below."""
    relative = os.path.relpath(path)
    return Path(path if relative.startswith("..") else relative).as_posix()
