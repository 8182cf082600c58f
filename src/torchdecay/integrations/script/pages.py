"""The files and the page of a run on their way: after the first step, then by time, and at the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from torchdecay.integrations.script.folder import claim, shown
from torchdecay.integrations.script.guard import Guard
from torchdecay.integrations.script.options import Options
from torchdecay.observe.recorded.record import RunRecord

_SHARE = 0.01
"""Of the time since the first step, what pages may take."""
_LIVE = 60.0
"""Seconds from page to page under `--live`."""
_AGAIN = 1.0
"""Seconds until a folder that can't be written is asked for again."""


class Pages:
    """Where a run is written, and when.

    Args:
        options: what was asked for.
        guard: keeps note of what can't be written.
        writes: whether this process does; of several that train together one does.

    Attributes:
        folder: where; None until something is written.
    """

    def __init__(self, options: Options, guard: Guard, *, writes: bool) -> None:
        self._options, self._guard = options, guard
        self._writes = writes and bool(options.out)
        self.folder: Path | None = None
        self._began, self._spent, self._due = monotonic(), 0.0, -math.inf

    def is_due(self) -> bool:
        """Whether it is time for the next one."""
        return monotonic() > self._due

    def claimed(self) -> Path | None:
        """The folder, made when it is first needed; None where another process writes, or where it can't be made."""
        options = self._options
        if self.folder is None and self._writes:
            self.folder = self._guard(
                f"{options.out} can't be written",
                lambda: claim(Path(options.out), options.run, overwrite=options.overwrite),
            )
        return self.folder

    def write(self, record: Callable[[], RunRecord]) -> Path | None:
        """Write all files and the page; where it is."""
        folder = self.claimed()
        if folder is None:
            self._due = monotonic() + _AGAIN
            return None
        began = monotonic()
        found = record()
        self._guard(f"{shown(folder)} can't be written", lambda: found.save(folder))
        page = self._guard("the page could not be made", lambda: _page(found, folder))
        cost = monotonic() - began
        self._spent += cost
        self._due = self._began + (self._spent + cost) / _SHARE
        if self._options.live:
            self._due = min(self._due, monotonic() + _LIVE)
        return page


def _page(record: RunRecord, folder: Path) -> Path:
    from torchdecay.reports import report

    return report(record, folder, overwrite=True)
