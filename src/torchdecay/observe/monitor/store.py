"""What a monitor has recorded, and where it goes: memory, a file, writers; and who is told of alarms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torchdecay.errors import LoadError
from torchdecay.observe.monitor.blocks import Recorder
from torchdecay.observe.monitor.history import History
from torchdecay.observe.monitor.jsonl import Content, Head, Item, Writer, head_of, load
from torchdecay.observe.monitor.meant import Meant
from torchdecay.observe.monitor.outlets import KEPT, LEFT_OUT, MOST_FAILURES, Guard, Outlet, to_writer
from torchdecay.observe.monitor.series import Event, Record, Series
from torchdecay.text import repr_quoted


class Store:
    """Keeps series, records and alarms, and sends them on.

    Args:
        head: what the history begins with.
        guard: makes what does something that may fail, of its name and of what happens then.
        meant: which alarms are raised.
        on_alarm: called with each.
    """

    def __init__(
        self,
        head: Head,
        guard: Callable[[str, str], Guard],
        meant: Meant,
        on_alarm: Callable[[Event], Any] | None,
    ) -> None:
        self._head, self._seen = head, Content()
        self._guard, self._meant, self._on_alarm = guard, meant, on_alarm
        self._items: list[Item] = [head]
        self._outlets: list[Outlet] = []

    @property
    def recorded(self) -> Callable[[], History]:
        """Asks for the history, and keeps nothing else alive until then."""
        return partial(_history, self._head, self._seen)

    @property
    def num_series(self) -> int:
        """How many there are so far."""
        return len(self._seen.series)

    def opened(self, path: Path, if_exists: str, start: int, *, again: bool, leads: bool) -> tuple[Writer | None, int]:
        """The file, none where another process writes it, and the number of steps that were taken before."""
        if leads and if_exists != "error" and path.is_file() and not path.stat().st_size:
            # A full disk leaves a file without its first line.
            path.unlink()
        proceed = path.exists() and if_exists == "append"
        if proceed:
            self._head, self._seen = load(path)
            self._items = []
            last = self._seen.records.last
            start = start or last
            if again and start < last:
                kept = self.recorded().select(steps=(0, start))
                self._seen = Content(list(kept.series), Recorder(kept.records), list(kept.events))
                if leads:
                    kept.save(path)
        elif path.exists() and if_exists == "error" and leads:
            raise LoadError(
                f"{repr_quoted(str(path))} is there already.",
                "It may be the history of another run.",
                'Name another file, or say if_exists="append" to go on with it, if_exists="replace" to lose it.',
            )
        elif path.exists() and leads:
            head_of(path)
            path.unlink()
        return Writer(path, proceed=proceed) if leads else None, start

    def write_to(self, file: Writer, path: str | Path) -> None:
        """Send to a file from now on."""
        self._outlets.append(Outlet(self._guard(f"writing {repr_quoted(str(path))}", KEPT), file, file.close))

    def call(self, writer: Callable[..., Any]) -> None:
        """Send to a writer of the user's from now on."""
        name = getattr(writer, "__qualname__", type(writer).__qualname__)
        close = getattr(writer, "close", lambda: None)
        guard = self._guard(f"the writer {name}", LEFT_OUT)
        self._outlets.append(Outlet(guard, to_writer(writer, self._seen), close, most_failures=MOST_FAILURES))

    def add(self, item: Sequence[Series] | Record | Event) -> None:
        """Keep it; `send` is for the others."""
        self._seen.add(item)
        self._items.append(item)

    def send(self) -> None:
        """Send what has been kept since the last time, and before where that failed."""
        for outlet in self._outlets:
            outlet.catch_up(self._items)
        # What all have is kept as numbers only, which take a tenth of the memory.
        count = min((outlet.taken(self._items) for outlet in self._outlets), default=len(self._items))
        del self._items[:count]
        for outlet in self._outlets:
            outlet.forget(count)

    def alarm(self, event: Event) -> None:
        """Raise an alarm, unless what it says is meant so."""
        told = self._meant.told(event)
        if told is None:
            return
        self.add(told)
        self.send()
        if self._on_alarm is not None:
            self._on_alarm(told)

    def close(self) -> None:
        """Send the rest, and close what it goes to."""
        for outlet in self._outlets:
            outlet.close(self._items)
        self._outlets = []


def _history(head: Head, seen: Content) -> History:
    return History(series=tuple(seen.series), records=seen.records.records(), events=tuple(seen.events), **head.fields)
