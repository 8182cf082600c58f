"""`lint`: what is wrong with weight decay in source code."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from torchdecay.findings.choosing import is_wanted, prefixes
from torchdecay.findings.finding import Finding, Findings, Place
from torchdecay.findings.rule import Rule, Severity
from torchdecay.integrations.lint.code import Code
from torchdecay.integrations.lint.files import find_files, matches
from torchdecay.integrations.lint.rule import CHECKS
from torchdecay.integrations.lint.rules import (
    branches,
    coupling,
    coverage,
    groups,
    keys,
    lists,
    literals,
    order,
    penalties,
)
from torchdecay.integrations.lint.source import UnreadableError, parse, read_source, spared

UNREADABLE = Rule(
    "WD500",
    "error",
    "file that can't be looked into",
    "What is in it was not read, so nothing is known of it.",
    "Mend it, or leave it out with --exclude.",
)
# Importing the modules is what fills CHECKS.
_MODULES = (branches, coupling, coverage, groups, keys, lists, literals, order, penalties)
RULES: Mapping[str, Rule] = {one.code: one for one in sorted([UNREADABLE, *(check.rule for check in CHECKS)])}
"""For each code of the lint its rule."""

_WORTH = re.compile(r"weight[_-]decay|\.(?:named_)?parameters\s*\(|no_decay|param_groups")
_MANY = 200


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What of the findings is wanted.

    Attributes:
        select: codes or prefixes; all when there is none.
        ignore: codes or prefixes to leave out.
        per_file_ignores: globs of paths → codes or prefixes to leave out there.
        severity: code → another severity than the rule's.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    per_file_ignores: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    severity: Mapping[str, Severity] = field(default_factory=dict)

    def wants(self, code: str, path: str) -> bool:
        """Whether a code is wanted in a file."""
        left_out = [one for glob, codes in self.per_file_ignores.items() if matches(path, (glob,)) for one in codes]
        return is_wanted(code, self.select, (*self.ignore, *left_out))


@dataclass(frozen=True, repr=False)
class Lint(Findings, kind="lint"):
    """What was found in source code, file by file; prints as text.

    Attributes:
        findings: what was found.
        num_files: how many files were read.
    """

    findings: tuple[Finding, ...]
    num_files: int

    rules: ClassVar = RULES

    def __str__(self) -> str:
        return f"{super().__str__()}, in {self.num_files:,} {'file' if self.num_files == 1 else 'files'}"


def lint(
    paths: Iterable[str | Path] = (".",),
    *,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    per_file_ignores: Mapping[str, Iterable[str]] | None = None,
    severity: Mapping[str, Severity] | None = None,
    exclude: Iterable[str] = (),
    jobs: int = 1,
) -> Lint:
    """Look for faults of weight decay in source files, without running any of it.

    Args:
        paths: files and folders.
        select: codes, or prefixes such as "WD51"; all by default.
        ignore: codes or prefixes to leave out.
        per_file_ignores: globs of paths → codes or prefixes to leave out there.
        severity: code → "error", "warning" or "info".
        exclude: globs of files and folders to leave out.
        jobs: processes that read, where there are many files.

    Returns:
        A `Lint`: findings with stable codes, by file and line; `.ok` when there is neither error nor warning.

    Raises:
        PlanError: an unknown code.
        LoadError: a path that is not there, or nothing that is Python.
    """
    choices = Choices(
        select=prefixes(select, RULES),
        ignore=prefixes(ignore, RULES),
        per_file_ignores={glob: prefixes(codes, RULES) for glob, codes in (per_file_ignores or {}).items()},
        severity={prefixes((code,), RULES)[0]: one for code, one in (severity or {}).items()},
    )
    files = find_files(map(Path, paths), exclude)
    if jobs > 1 and len(files) > _MANY:
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(jobs) as pool:
            found = list(pool.map(_read_file, files, [choices] * len(files), chunksize=16))
    else:
        found = [_read_file(path, choices) for path in files]
    return Lint(tuple(one for findings in found for one in findings), len(files))


def _read_file(path: Path, choices: Choices) -> list[Finding]:
    """The findings of one file that are wanted."""
    name = _name(path)
    # Trees hold no circles: what they hold goes at once, and the collector would walk them in vain.
    collects = gc.isenabled()
    gc.disable()
    try:
        findings = list(_look(path, name))
    except UnreadableError as error:
        place = Place(name, error.line, error.column, error.line, error.column + 1, text=error.text.rstrip("\r\n"))
        findings = [_finding(UNREADABLE, place, error.why)]
    finally:
        if collects:
            gc.enable()
    kept = [one for one in findings if choices.wants(one.code, name)]
    return [_with_severity(one, choices.severity) for one in kept]


def _look(path: Path, name: str) -> Iterator[Finding]:
    source = read_source(path, name)
    tree = parse(source.text)
    if not _WORTH.search(source.text):
        return
    try:
        code = Code(tree)
        hits = [(check.rule, hit) for check in CHECKS for hit in check.hits(code)]
    except RecursionError as error:
        raise UnreadableError("its expressions are nested too deep") from error
    lines = source.lines
    left_out = dict(spared(lines))
    for told, hit in sorted(hits, key=lambda pair: (pair[1].node.lineno, pair[1].node.col_offset, pair[0].code)):  # type: ignore[attr-defined]
        span = range(hit.node.lineno, (hit.node.end_lineno or 0) + 1)  # type: ignore[attr-defined]
        codes = [left_out[line] for line in span if line in left_out]
        if not any(not some or told.code in some for some in codes):
            yield _finding(told, source.place(hit.node, lines), hit.what, hit.severity)


def _finding(rule: Rule, place: Place, what: str, severity: Severity | None = None) -> Finding:
    return Finding(
        code=rule.code,
        severity=severity or rule.severity,
        where=str(place),
        what=what,
        why=rule.why,
        fix=rule.fix,
        place=place,
    )


def _with_severity(finding: Finding, severities: Mapping[str, Severity]) -> Finding:
    own = severities.get(finding.code)
    return replace(finding, severity=own) if own else finding


def _name(path: Path) -> str:
    """A path as findings say it: from the current folder, where it is below."""
    relative = os.path.relpath(path)
    return Path(path if relative.startswith("..") else relative).as_posix()
