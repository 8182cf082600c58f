"""The folder of a run: made where none is, so that no run loses another's, and known by the mark of its run."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SUMMARY = "summary.json"
_NUMBERED = re.compile(r"(plan|audit|forecast|history)-\d+\.jsonl?")


def claim(out: Path, run: str, *, overwrite: bool) -> Path:
    """Make the folder for a run: out, or the first of out-2, out-3, ... that is not there.

    Args:
        out: where to begin.
        run: the id of the run; what it wrote itself, in another process, is kept always.
        overwrite: whether `out` is emptied and taken, where an earlier run wrote it.

    Raises:
        OSError: it can't be made.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    for folder in _numbered(out):
        if overwrite and folder == out and (said := summary_of(folder)) is not None and said.get("run") != run:
            _empty(folder)
            return folder
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("there is always another number")


def folders_of(out: Path, run: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folders that a run wrote, and what their summaries say."""
    for folder in itertools.takewhile(Path.exists, _numbered(out)):
        said = summary_of(folder)
        if said is not None and said.get("run") == run:
            yield folder, said


def summary_of(folder: Path) -> dict[str, Any] | None:
    """What the summary of a folder says, or None where it is no run's."""
    try:
        said = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and said.get("format") == "torchdecay.run" else None


def _numbered(out: Path) -> Iterator[Path]:
    yield out
    yield from (out.with_name(f"{out.name}-{number}") for number in itertools.count(2))


def _empty(folder: Path) -> None:
    """Take out what a run wrote, and nothing else."""
    for path in folder.iterdir():
        if path.name in (SUMMARY, "index.html") or (_NUMBERED.fullmatch(path.name) and path.is_file()):
            path.unlink()
        elif path.name.startswith(".torchdecay-") and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def shown(path: Path) -> str:
    """A path as a person would type it from where the script was started."""
    try:
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
    except OSError:
        return str(path)
