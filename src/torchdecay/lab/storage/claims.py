"""Claims: which process runs what, in a table of its own beside Optuna's, so that no run is made twice."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

STALE_SECONDS = 60.0
"""A claim that was not renewed for so long belongs to nobody: its process hangs, or its machine is gone."""
BEAT_SECONDS = 5.0
BUSY_SECONDS = 60.0


class Claims:
    """The claims of one sweep in one store; each process has its own object.

    A claim is a row (sweep, key, owner, time); its primary key makes taking it one atomic act. It is renewed by a
    thread, and free again when its process is dead or silent.
    """

    def __init__(self, path: Path, sweep: str) -> None:
        self._path, self._sweep = path, sweep
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._end = threading.Event()
        self._beat: threading.Thread | None = None
        with connect(path) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS torchdecay_claims "
                "(sweep TEXT, key TEXT, owner TEXT, beat REAL, PRIMARY KEY (sweep, key))"
            )

    def take(self, key: str) -> bool:
        """Take the claim if it is free, stale, or ours; whether it is ours now."""
        if self._beat is None:
            self._beat = threading.Thread(target=self._renew, daemon=True)
            self._beat.start()
        with connect(self._path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute(
                "SELECT owner, beat FROM torchdecay_claims WHERE sweep = ? AND key = ?", (self._sweep, key)
            ).fetchone()
            free = row is None or row[0] == self._owner or _is_dead(*row)
            if free:
                connection.execute(
                    "REPLACE INTO torchdecay_claims VALUES (?, ?, ?, ?)", (self._sweep, key, self._owner, time.time())
                )
            connection.execute("COMMIT")
        return free

    def release(self, key: str) -> None:
        """Give the claim back."""
        with connect(self._path) as connection:
            connection.execute(
                "DELETE FROM torchdecay_claims WHERE sweep = ? AND key = ? AND owner = ?",
                (self._sweep, key, self._owner),
            )

    def close(self) -> None:
        """Give everything back and stop renewing."""
        self._end.set()
        if self._beat is not None:
            self._beat.join()
        with contextlib.suppress(sqlite3.Error), connect(self._path) as connection:
            connection.execute("DELETE FROM torchdecay_claims WHERE owner = ?", (self._owner,))

    def _renew(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            # What can't be renewed now, on a full disk say, is tried again at the next beat.
            with contextlib.suppress(sqlite3.Error), connect(self._path) as connection:
                connection.execute("UPDATE torchdecay_claims SET beat = ? WHERE owner = ?", (time.time(), self._owner))


@contextlib.contextmanager
def connect(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that commits each statement, and waits while others write."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def _is_dead(owner: str, beat: float) -> bool:
    host, pid, _ = owner.split("/")
    if abs(time.time() - beat) > STALE_SECONDS:
        return True
    if host != socket.gethostname() or os.name == "nt":
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
