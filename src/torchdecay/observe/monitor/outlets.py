"""Where records go as they are made: the file, and writers of the user's; none of them may stop a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torchdecay.errors import NotRecordedWarning, warn_in_step
from torchdecay.observe.monitor.columns import short, unpacked
from torchdecay.observe.monitor.jsonl import Content, Item
from torchdecay.observe.monitor.series import Event, Record
from torchdecay.text import describe_error

Told = Callable[[str, Exception], Any]
"""Hears what was done, "writing run.jsonl" say, and why it failed."""


KEPT = "Records stay in memory, and are sent again with the next one; monitor.history.save(path) writes them all."
"""What becomes of records that a file does not take."""
MOST_FAILURES = 3
"""After so many in a row a writer is left out: it is asked at every record, and may wait for a network each time."""
LEFT_OUT = (
    f"Records stay in memory, and are sent again with the next one; after {MOST_FAILURES} failures in a row "
    "this writer is left out. monitor.history.save(path) writes them all."
)
"""What becomes of records that a writer does not take."""


class Guard:
    """Does what may fail beside a training: it tells `on_error`, or warns once, or raises where it is strict."""

    def __init__(self, name: str, then: str, *, strict: bool, on_error: Told | None) -> None:
        self._name, self._then, self.strict, self._is_told = name, then, strict, False
        self._on_error = on_error

    def does(self, work: Callable[[], Any]) -> bool:
        """Do it; whether that went well."""
        try:
            work()
        except Exception as error:
            if self.strict:
                raise
            if self._on_error is not None:
                self._on_error(self._name, error)
            elif not self._is_told:
                self._is_told = True
                warn_in_step(
                    f"{self._name} failed: {describe_error(error).rstrip('.')}. The training goes on. {self._then} "
                    "To stop it at the first error, say td.Monitor(..., strict=True).",
                    NotRecordedWarning,
                    stacklevel=2,
                )
            return False
        return True


class Outlet:
    """Sends a monitor's items, in their order, to one place; what that does not take is sent again later."""

    def __init__(
        self, guard: Guard, send: Callable[[Item], Any], close: Callable[[], Any], *, most_failures: float = math.inf
    ) -> None:
        self._guard, self._send, self._close, self._sent = guard, send, close, 0
        self._failures, self._most = 0, most_failures

    def catch_up(self, items: Sequence[Item]) -> None:
        """Send what it has not taken yet; nothing to one that has failed too often in a row."""
        while self._sent < len(items) and self._failures < self._most:
            if not self._guard.does(lambda: self._send(items[self._sent])):
                self._failures += 1
                return
            self._sent, self._failures = self._sent + 1, 0

    def taken(self, items: Sequence[Item]) -> int:
        """How many it needs no more: those that it has, or all where it is left out."""
        return self._sent if self._failures < self._most else len(items)

    def forget(self, count: int) -> None:
        """The first so many items are gone."""
        self._sent -= count

    def close(self, items: Sequence[Item]) -> None:
        """Try a last time, and end: a training that is over is not stopped."""
        self._guard.strict = False
        self.catch_up(items)
        self._guard.does(self._close)


def to_writer(writer: Callable[..., Any], seen: Content) -> Callable[[Item], None]:
    """What gives each record to a writer as {"group/quantity": number}, and alarms to its method `alarm`."""

    def send(item: Item) -> None:
        if isinstance(item, Record):
            flat = {
                f"{seen.series[item.first + place].name}/{name}": short(value)
                for name, column in item.columns.items()
                for place, value in enumerate(unpacked(column))
                if value == value
            }
            writer(flat, item.step)
        elif isinstance(item, Event) and callable(tell := getattr(writer, "alarm", None)):
            tell(item)

    return send
