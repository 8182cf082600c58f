"""A command while it runs: its output, kept and read line by line, and its end, by itself or by us."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

KEEPER = Path(__file__).with_name("keeper.py")
LOOK_SECONDS = 0.2
"""How often to look at what says nothing when it changes."""
_END, _MOST = 40, 100_000


class Child:
    """A command in a process group of its own, with nothing to read from; both its streams go into the file.

    From SIGTERM to SIGKILL it has `grace` seconds.
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], output: Path, grace: float) -> None:
        theirs, self._ours = os.pipe()
        try:
            self._file = output.open("ab")
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(KEEPER), str(theirs), str(grace), *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                pass_fds=(theirs,),
                # Ctrl-C of a terminal reaches the sweep, and the sweep says who ends.
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        self._end: deque[str] = deque(maxlen=_END)
        self._rest = b""
        self.code: int | None = None

    @property
    def end(self) -> str:
        """The last lines that it printed."""
        rest = self._rest.decode(errors="replace").strip()
        return "\n".join([*self._end, *([rest] if rest else [])])

    def lines(self) -> Iterator[list[str]]:
        """The lines that came since, again and again until it has ended; none where nothing came for a while."""
        assert self._process.stdout is not None
        source, open_ = self._process.stdout.fileno(), True
        while self._process.poll() is None:
            if not open_:
                time.sleep(LOOK_SECONDS)
                yield []
            elif select.select([source], [], [], LOOK_SECONDS)[0]:
                chunk = os.read(source, 65536)
                open_ = bool(chunk)
                yield self._split(chunk)
            else:
                yield []
        # What left the group may hold the stream open for ever: only what is there already is read.
        while open_ and select.select([source], [], [], 0)[0] and (chunk := os.read(source, 65536)):
            yield self._split(chunk)
        yield self._split(b"\n")
        self.code = self._process.returncode

    def _split(self, chunk: bytes) -> list[str]:
        self._file.write(chunk)
        self._file.flush()
        *whole, self._rest = re.split(rb"\r\n|[\r\n]", (self._rest + chunk)[-_MOST:])
        lines = [line.decode(errors="replace") for line in whole if line.strip()]
        self._end += lines
        return lines

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        with contextlib.suppress(OSError):
            os.write(self._ours, b"t")
        with contextlib.suppress(GeneratorExit):
            for _ in self.lines():
                pass

    def close(self) -> None:
        """Kill what is left of it, and let go of everything."""
        os.close(self._ours)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._file.close()
