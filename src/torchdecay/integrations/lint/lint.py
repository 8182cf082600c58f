"""`lint`: what is wrong with weight decay in source code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from torchdecay.findings.choosing import is_wanted, prefixes
from torchdecay.findings.finding import Finding
from torchdecay.findings.rule import Severity
from torchdecay.integrations.lint.files import find_files, matches
from torchdecay.integrations.lint.project import Facts, project_findings
from torchdecay.integrations.lint.reading import read_file
from torchdecay.integrations.lint.result import RULES, Lint

_MANY = 200
"""Files from which on several processes are worth their start."""


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
        A `Lint`: findings with stable codes, by file and line; `.ok` when there is neither error nor warning;
        `.to_json()`, `.to_github()`, `.to_sarif()`.

    Raises:
        PlanError: an unknown code or severity.
        LoadError: a path that is not there, or nothing that is Python.
    """
    wanted = choice(select, ignore, per_file_ignores or {})
    given = [Path(one) for one in paths]
    files = find_files(given, exclude)
    found, facts = list[Finding](), list[Facts]()
    for findings, told in _read(files, jobs):
        found += findings
        facts.append(told)
    found += project_findings(given, files, facts, exclude)

    return Lint(tuple(filter(wanted, found)), len(files)).with_severity(severity or {})


def choice(
    select: Iterable[str], ignore: Iterable[str], per_file_ignores: Mapping[str, Iterable[str]]
) -> Callable[[Finding], bool]:
    """Whether a finding is asked for."""
    chosen, left_out = prefixes(select, RULES), prefixes(ignore, RULES)
    left_out_in = {glob: prefixes(codes, RULES) for glob, codes in per_file_ignores.items()}

    def wanted(one: Finding) -> bool:
        path = one.place.path if one.place is not None else ""
        here = [code for glob, codes in left_out_in.items() if matches(path, (glob,)) for code in codes]
        return is_wanted(one.code, chosen, (*left_out, *here))

    return wanted


def _read(files: list[Path], jobs: int) -> Iterator[tuple[list[Finding], Facts]]:
    if jobs == 1 or len(files) < _MANY:
        yield from map(read_file, files)
        return
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(read_file, files, chunksize=16)
