"""Which files are looked into."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from torchdecay.errors import LoadError
from torchdecay.text import repr_quoted

SUFFIXES = (".py", ".pyw", ".ipynb")
LEFT_OUT = {"venv", "node_modules", "__pycache__", "site-packages", "build", "dist", "__pypackages__"}


def find_files(paths: Iterable[Path], exclude: Iterable[str] = ()) -> list[Path]:
    """The Python files and notebooks of files and folders, each once, sorted within each folder.

    Args:
        paths: a file is taken whatever it is called; of a folder what is Python, hidden and installed things left out.
        exclude: globs of paths or of names of files and folders to leave out.
    """
    given, globs = list(paths), tuple(exclude)
    found: dict[Path, None] = {}
    for path in given:
        if path.is_dir():
            found |= dict.fromkeys(_walk(path, globs))
        elif path.is_file() or path.is_symlink():
            found[path] = None
        else:
            raise LoadError(f"there is no file or folder {repr_quoted(str(path))}.", fix="Give one that is there.")
    if not found:
        where = " or ".join(repr_quoted(str(path)) for path in given)
        raise LoadError(f"no Python in {where}.", f"Looked for {', '.join(SUFFIXES)}.", "Give another path.")
    return list(found)


def find_named(paths: Iterable[Path], suffixes: tuple[str, ...], exclude: Iterable[str]) -> list[Path]:
    """The files with these endings, in folders and among the paths themselves."""
    globs, found = tuple(exclude), list[Path]()
    for path in paths:
        found += _walk(path, globs, suffixes) if path.is_dir() else [path] if path.name.endswith(suffixes) else []
    return [one for one in found if one.is_file()]


def _walk(folder: Path, globs: tuple[str, ...], suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = [one for one in _kept(here, folders, globs) if one not in LEFT_OUT]
        yield from (Path(here) / one for one in _kept(here, files, globs) if one.endswith(suffixes))


def _kept(folder: str, names: list[str], globs: tuple[str, ...]) -> list[str]:
    """Those that are not hidden, and not to be left out."""
    return sorted(one for one in names if one[0] != "." and not matches((Path(folder) / one).as_posix(), globs))


def matches(path: str, globs: Iterable[str]) -> bool:
    """Whether a path, its end from any folder on, or one of its names matches one of the globs."""
    parts = path.split("/")
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    return any(fnmatch.fnmatch(one, glob.rstrip("/")) for glob in globs for one in (path, *ends, *parts))
