"""Putting a set of files in place: all of them or none, and nothing that stands there already is lost."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from torchdecay.errors import TaskError
from torchdecay.text import repr_quoted

Contents = Mapping[str, str | bytes]

# What each kind of file says of itself near its start: pages, numbers, SVG and PNG.
_MARKS = re.compile(
    rb'<meta name="generator" content="torchdecay">|"format": "torchdecay\.\w+"|<!-- torchdecay -->|'
    rb"Software\0torchdecay"
)


def settle(path: Path, layout: Callable[[Path], tuple[Path, Contents]], *, overwrite: bool) -> Path:
    """The path, or the first of path-2, path-3, ... where nothing would be lost.

    Args:
        path: a folder or a file.
        layout: for such a path the folder and, by their names in it, the contents of all files that are to be written.
        overwrite: whether what this package wrote there, of the same kind, may go; what bears a number is never named,
            and is kept.
    """
    base = path if path.name not in ("", "..") else path / "torchdecay"
    later = (base.with_name(f"{base.stem}-{number}{base.suffix}") for number in itertools.count(2))

    def is_free(one: Path) -> bool:
        folder, contents = layout(one)
        return not any(
            _is_lost(folder / name, content, overwrite and one == path) for name, content in contents.items()
        )

    return next(filter(is_free, itertools.chain([path], later)))


def _is_lost(path: Path, content: str | bytes, overwrite: bool) -> bool:
    """Whether writing this would lose what stands there."""
    if not os.path.lexists(path):
        return False
    new = content.encode("utf-8", "replace") if isinstance(content, str) else content
    try:
        old = path.read_bytes()
    except OSError:
        return True
    found, own = _MARKS.search(old[:2000]), _MARKS.search(new[:2000])
    is_ours = found is not None and own is not None and found[0] == own[0]
    return old != new and not (overwrite and is_ours)


def place(folder: Path, contents: Contents, *, last: str, without: Iterable[str] = ()) -> Path:
    """Write files into a folder: all are made before the first is moved into place; a failure puts the old ones back.

    The file named `last` appears only when all else is in place, and is returned; those `without` go.
    """
    names = sorted(contents, key=last.__eq__)
    made: list[Path] = []
    try:
        _make(folder, made)
        # Inside the folder, so that moving is renaming, and a folder that alone is writable is enough.
        staging = Path(tempfile.mkdtemp(prefix=".torchdecay-", dir=folder))
    except OSError as error:
        _remove_empty(made)
        raise _unwritable(folder, error) from error
    try:
        for name, content in contents.items():
            target = staging / "new" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode("utf-8", "replace") if isinstance(content, str) else content)
        gone = sorted(name for name in {*without} - {*names} if (folder / name).is_file())
        _swap(folder, staging, [*gone, *names], made)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _remove_empty(made)
    return folder / last


def place_file(path: Path, content: str | bytes, *, overwrite: bool) -> Path:
    """Write one file, or path-2 beside what stands there."""
    path = settle(path, lambda one: (one.parent, {one.name: content}), overwrite=overwrite)
    return place(path.parent, {path.name: content}, last=path.name)


def _swap(folder: Path, staging: Path, names: list[str], made: list[Path]) -> None:
    moved: list[tuple[Path, Path | None]] = []
    try:
        for name in names:
            target, old = folder / name, staging / "old" / name
            _make(target.parent, made)
            kept = None
            if target.is_dir():
                raise IsADirectoryError(21, "a folder of this name is in the way", str(target))
            if target.exists() or target.is_symlink():
                old.parent.mkdir(parents=True, exist_ok=True)
                os.replace(target, old)
                kept = old
            moved.append((target, kept))
            if (staging / "new" / name).exists():
                os.replace(staging / "new" / name, target)
    except BaseException:
        for target, kept in reversed(moved):
            with contextlib.suppress(OSError):
                if kept is None:
                    target.unlink(missing_ok=True)
                else:
                    os.replace(kept, target)
        raise


def _make(folder: Path, made: list[Path]) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir()
        made.append(one)


def _remove_empty(made: list[Path]) -> None:
    for folder in reversed(made):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _unwritable(folder: Path, error: OSError) -> TaskError:
    return TaskError(
        f"the results can't be written to {repr_quoted(str(folder))}: {error.strerror or error}"
        + (f" ({error.filename})." if error.filename and str(error.filename) != str(folder) else "."),
        "Nothing there was changed.",
        "Name a folder that you may write to, or make room on the disk.",
    )
