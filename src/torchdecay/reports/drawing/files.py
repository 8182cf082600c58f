"""Putting a set of files in place: all of them or none, and nothing that is not ours touched."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from torchdecay.errors import TaskError
from torchdecay.text import repr_quoted


def place(folder: Path, contents: Mapping[str, str | bytes], *, last: str, replaces: Iterable[str] = ()) -> Path:
    """Write files into a folder: all are made before the first is moved into place; a failure puts the old ones back.

    Args:
        folder: where; made when it is not there.
        contents: relative path to text or bytes.
        last: the one of them that appears only when all else is in place.
        replaces: glob patterns of files that an earlier page may have left here; those not in `contents` go.

    Returns:
        The path of `last`.

    Raises:
        TaskError: the folder can't be written.
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
        stale = {str(path.relative_to(folder)) for pattern in replaces for path in folder.glob(pattern)}
        _swap(folder, staging, [*sorted(stale - set(names)), *names], made)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _remove_empty(made)
    return folder / last


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
