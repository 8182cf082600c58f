"""Whether a file is opened while a run lasts, by whichever process: where Linux tells (inotify)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from pathlib import Path

_OPEN, _FOLDER, _NONBLOCK, _CLOSE_ON_EXEC = 0x20, 0x40000000, 0o4000, 0o2000000
_EVENT = struct.Struct("iIII")


class Opening:
    """Watches a file, or the files of a folder and of those in it, until it is closed."""

    def __init__(self, path: Path) -> None:
        self._seen: bool | None = None
        self._events = -1
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            self._events = library.inotify_init1(_NONBLOCK | _CLOSE_ON_EXEC)
            watched = [path, *(one for one in path.rglob("*") if one.is_dir())]
            if self._events >= 0 and all(
                library.inotify_add_watch(self._events, os.fsencode(one), _OPEN) >= 0 for one in watched
            ):
                self._seen = False

    @property
    def was_seen(self) -> bool | None:
        """Whether some file was opened since; None where nobody can tell."""
        while self._seen is False:
            try:
                events = os.read(self._events, 65536)
            except BlockingIOError:
                break
            place = 0
            while place < len(events):
                _, mask, _, length = _EVENT.unpack_from(events, place)
                # That a folder was listed is not yet that something in it was read.
                self._seen = self._seen or not mask & _FOLDER
                place += _EVENT.size + length
        return self._seen

    def close(self) -> None:
        """Stop watching."""
        if self._events >= 0:
            os.close(self._events)
            self._events = -1
