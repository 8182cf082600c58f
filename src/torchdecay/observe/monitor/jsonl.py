"""Histories as JSONL: a line for the header, for groups, for each record and each alarm, written as it happens."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from pathlib import Path
from typing import IO, Any

from torchdecay.errors import LoadError, TornHistoryWarning, repr_quoted
from torchdecay.observe.monitor.columns import from_json, to_json
from torchdecay.observe.monitor.history import Event, History, Record, Series

FORMAT, VERSION = "torchdecay.history", 1


class Writer:
    """Appends lines to a file; each is whole in the file when the call returns.

    Args:
        path: of the file, which must not be there unless it is continued.
        history: what stands in the file already, if it is continued; else the header of a new one.
        proceed: whether to continue.
    """

    def __init__(self, path: Path, history: History, *, proceed: bool) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if proceed:
                _cut_torn(path)
            self._file: IO[bytes] = path.open("ab" if proceed else "xb")
        except OSError as error:
            raise LoadError(f"the history can't be written to {repr_quoted(str(path))}: {error.strerror}.") from error
        if not proceed:
            self._write(_header(history))

    def series(self, series: tuple[Series, ...]) -> None:
        """New groups."""
        self._write({"series": [_without_empty(dataclasses.asdict(one)) for one in series]})

    def record(self, record: Record) -> None:
        """A record."""
        self._write(_record_line(record))

    def event(self, event: Event) -> None:
        """An alarm."""
        self._write({"event": dataclasses.asdict(event)})

    def close(self) -> None:
        """No more lines."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        # One write and one flush: after a crash the file lacks at most a part of the last line.
        self._file.write(_text(line))
        self._file.flush()


def save(history: History, path: Path) -> Path:
    """Write a whole history; the file is there when it is complete."""
    lines = [_header(history), {"series": [_without_empty(dataclasses.asdict(one)) for one in history.series]}]
    lines += map(_record_line, history.records)
    lines += ({"event": dataclasses.asdict(one)} for one in history.events)
    staged = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("wb") as file:
            file.writelines(map(_text, lines))
        os.replace(staged, path)
    except OSError as error:
        raise LoadError(f"the history can't be written to {repr_quoted(str(path))}: {error.strerror}.") from error
    return path


def load(path: Path) -> History:
    """`History.load`, which documents it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LoadError(f"{repr_quoted(str(path))} can't be read: {error.strerror}.") from error
    lines = content.split(b"\n")
    torn = lines.pop()
    head = _header_of(lines[0] if lines else torn, path)
    if not lines:
        raise LoadError(f"{repr_quoted(str(path))} ends within its first line.", "It holds no history yet.")
    series: list[Series] = []
    records: list[Record] = []
    events: list[Event] = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            _read(json.loads(line), series, records, events)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise LoadError(
                f"line {number} of {repr_quoted(str(path))} is damaged: {error}.",
                f"Of a history that was cut off only the last line is torn, and this one has {len(lines)}.",
                "Restore the file; or take the line out to lose what it says.",
            ) from error
    if torn:
        warnings.warn(
            f"the last line of {path} is torn after {len(torn)} bytes and was left out: whoever wrote it was stopped "
            f"in the middle. {len(records)} records up to step {max((one.step for one in records), default=0)} are "
            "whole.",
            TornHistoryWarning,
            stacklevel=3,
        )
    return History(
        series=tuple(series),
        records=tuple(records),
        events=tuple(events),
        every_steps=head["every_steps"],
        created=head["created"],
        versions=head["versions"],
    )


def _header(history: History) -> dict[str, Any]:
    about = {"every_steps": history.every_steps, "created": history.created, "versions": dict(history.versions)}
    return {"format": FORMAT, "version": VERSION, **about}


def _header_of(line: bytes, path: Path) -> dict[str, Any]:
    try:
        head = json.loads(line)
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        other = head.get("format") if isinstance(head, dict) else None
        raise LoadError(
            f"{repr_quoted(str(path))} is no history"
            + (f", but {repr_quoted(str(other))}." if other else ": its first line is not a history's header."),
            fix="Give a file that td.Monitor(..., path=) or history.save() wrote.",
        )
    if head.get("version") != VERSION:
        raise LoadError(
            f"{repr_quoted(str(path))} is a history of version {head.get('version')!r}; this torchdecay reads "
            f"{VERSION}.",
            fix="Read it with the version of torchdecay that wrote it"
            + (f", {head['versions']['torchdecay']}." if "torchdecay" in head.get("versions", {}) else "."),
        )
    return head


def _read(line: dict[str, Any], series: list[Series], records: list[Record], events: list[Event]) -> None:
    if "series" in line:
        series += [Series(**{**one, "names": tuple(one.get("names", ()))}) for one in line["series"]]
    elif "event" in line:
        events.append(Event(**line["event"]))
    else:
        first, count = int(line["first"]), int(line["count"])
        if not 0 <= first <= first + count <= len(series):
            raise ValueError(f"groups {first} to {first + count} of {len(series)}")
        columns = {str(name): from_json(value, count) for name, value in line["values"].items()}
        records.append(Record(step=int(line["step"]), first=first, columns=columns))


def _record_line(record: Record) -> dict[str, Any]:
    values = {name: to_json(column) for name, column in record.columns.items()}
    return {"step": record.step, "first": record.first, "count": len(record), "values": values}


def _without_empty(series: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in series.items() if value not in ("", (), 0)}


def _text(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _cut_torn(path: Path) -> None:
    """Take off a last line that has no end, so that what follows begins a line of its own."""
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
