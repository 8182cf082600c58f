"""Histories as JSONL: a line for the header, for groups, for each record and each alarm, written as it happens."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from torchdecay.errors import LoadError, TornHistoryWarning
from torchdecay.observe.monitor.columns import from_json, to_json
from torchdecay.observe.monitor.series import Event, Record, Series
from torchdecay.records import Kind, decode, loads, plain
from torchdecay.text import repr_quoted

KIND = Kind("history", again="Give a file that td.Monitor(..., path=) or history.save() wrote.")


@dataclass(frozen=True)
class Head:
    """The first line: how many steps lie between records, when the history was begun, and by which versions."""

    every_steps: int
    created: str
    versions: Mapping[str, str]


@dataclass
class Content:
    """What the other lines hold, in the order in which they were written."""

    series: list[Series] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class Writer:
    """Appends lines to a file; each is whole in the file when the call returns.

    Args:
        path: of the file, which must not be there unless it is continued.
        head: the first line of a new file; None continues one.
    """

    def __init__(self, path: Path, head: Head | None) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if head is None:
                _cut_torn(path)
            self._file: IO[bytes] = path.open("ab" if head is None else "xb")
        except OSError as error:
            raise LoadError(f"the history can't be written to {repr_quoted(str(path))}: {error.strerror}.") from error
        if head is not None:
            self._write(_head_line(head))

    def series(self, series: tuple[Series, ...]) -> None:
        """New groups."""
        self._write(_series_line(series))

    def record(self, record: Record) -> None:
        """A record."""
        self._write(_record_line(record))

    def event(self, event: Event) -> None:
        """An alarm."""
        self._write(_event_line(event))

    def close(self) -> None:
        """No more lines."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        # One write and one flush: after a crash the file lacks at most a part of the last line.
        self._file.write(_text(line))
        self._file.flush()


def save(path: Path, head: Head, content: Content) -> None:
    """Write a whole history; the file is there when it is complete."""
    lines = [_head_line(head), _series_line(content.series), *map(_record_line, content.records)]
    lines += map(_event_line, content.events)
    staged = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("wb") as file:
            file.writelines(map(_text, lines))
        os.replace(staged, path)
    except OSError as error:
        raise LoadError(f"the history can't be written to {repr_quoted(str(path))}: {error.strerror}.") from error


def load(path: Path) -> tuple[Head, Content]:
    """What `History.load` makes a history of."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LoadError(f"{repr_quoted(str(path))} can't be read: {error.strerror}.") from error
    lines = content.split(b"\n")
    torn = lines.pop()
    head = _header_of(lines[0] if lines else torn, repr_quoted(str(path)))
    if not lines:
        raise LoadError(f"{repr_quoted(str(path))} ends within its first line.", "It holds no history yet.")
    found = Content()
    for number, line in enumerate(lines[1:], start=2):
        try:
            _read(loads(line), found)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise LoadError(
                f"line {number} of {repr_quoted(str(path))} is damaged: {getattr(error, 'what', error)}.",
                f"Of a history that was cut off only the last line is torn, and this one has {len(lines)}.",
                "Restore the file; or take the line out to lose what it says.",
            ) from error
    if torn:
        warnings.warn(
            f"the last line of {path} is torn after {len(torn)} bytes and was left out: whoever wrote it was stopped "
            f"in the middle. {len(found.records)} records up to step "
            f"{max((one.step for one in found.records), default=0)} are whole.",
            TornHistoryWarning,
            stacklevel=3,
        )
    return head, found


def _head_line(head: Head) -> dict[str, Any]:
    return {**KIND.header, **plain(head)}


def _header_of(line: bytes, where: str) -> Head:
    try:
        data = loads(line)
    except (ValueError, RecursionError):
        data = None
    head: Head = decode(KIND.body(data, where), Head, kind=KIND)
    return head


def _read(line: dict[str, Any], found: Content) -> None:
    if "series" in line:
        found.series += decode(line["series"], tuple[Series, ...], kind=KIND)
    elif "event" in line:
        found.events.append(decode(line["event"], Event, kind=KIND))
    else:
        first, count = int(line["first"]), int(line["count"])
        if not 0 <= first <= first + count <= len(found.series):
            raise ValueError(f"groups {first} to {first + count} of {len(found.series)}")
        columns = {str(name): from_json(value, count) for name, value in line["values"].items()}
        found.records.append(Record(step=int(line["step"]), first=first, columns=columns))


def _series_line(series: Iterable[Series]) -> dict[str, Any]:
    return {"series": [plain(one) for one in series]}


def _record_line(record: Record) -> dict[str, Any]:
    values = {name: to_json(column) for name, column in record.columns.items()}
    return {"step": record.step, "first": record.first, "count": len(record), "values": values}


def _event_line(event: Event) -> dict[str, Any]:
    return {"event": plain(event)}


def _text(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _cut_torn(path: Path) -> None:
    """Take off a last line that has no end, so that what follows begins a line of its own."""
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
