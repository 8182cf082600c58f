"""Histories as JSONL: a line for the header, for groups, for each record and each alarm, written as it happens."""

from __future__ import annotations

import errno
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from torchdecay.errors import NO_ROOM, LoadError, TornHistoryWarning
from torchdecay.observe.monitor.columns import Columns, from_json, to_json
from torchdecay.observe.monitor.series import Event, Record, Series
from torchdecay.records import Kind, decode, loads, plain
from torchdecay.text import counted, repr_quoted

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
    names: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)


Item = Head | Sequence[Series] | Record | Event
"""What one line holds."""


class Writer:
    """Appends lines to a file; each is whole in the file when the call returns, and none of it where it raises.

    Args:
        path: of the file, which must not be there unless it is continued.
        proceed: whether it is.
    """

    def __init__(self, path: Path, *, proceed: bool) -> None:
        self._path, self._proceed = path, proceed
        self._file: Any = None
        try:
            self._begin()
        except LoadError as error:
            # The first line finds out whether there is room by then.
            if getattr(error.__cause__, "errno", None) not in NO_ROOM:
                raise

    def _begin(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._proceed:
                _cut_torn(self._path)
            # Unbuffered: what could not be written must not come out later, after what was written since.
            self._file = self._path.open("ab" if self._proceed else "xb", buffering=0)
        except OSError as error:
            said = f"the history can't be written to {repr_quoted(str(self._path))}: {error.strerror}."
            raise LoadError(said) from error
        self._end = self._file.seek(0, os.SEEK_END)

    def __call__(self, item: Item) -> None:
        """One line more."""
        if self._file is None:
            self._begin()
        text = memoryview(_line(item))
        try:
            while text:
                text = text[self._file.write(text) :]
        except OSError:
            # A full disk takes a part of a line.
            self._file.seek(self._end)
            self._file.truncate()
            raise
        self._end = self._file.tell()

    def close(self) -> None:
        """No more lines."""
        if self._file is not None:
            self._file.close()

    def __del__(self) -> None:
        # Whoever lets go of a monitor without closing it has lost no line.
        if hasattr(self, "_file"):
            self.close()


def save(path: Path, head: Head, content: Content) -> None:
    """Write a whole history; the file is there when it is complete."""
    items: list[Item] = [head, content.series, *content.records, *content.events]
    staged = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("wb") as file:
            file.writelines(map(_line, items))
        os.replace(staged, path)
    except OSError as error:
        raise LoadError(f"the history can't be written to {repr_quoted(str(path))}: {error.strerror}.") from error


def head_of(path: Path) -> Head:
    """The first line of a file.

    Raises:
        LoadError: it can't be read, or is no history.
    """
    with _reading(path) as file:
        return _header_of(file.readline(), repr_quoted(str(path)))


def load(path: Path) -> tuple[Head, Content]:
    """What `History.load` makes a history of."""
    where, found, torn = repr_quoted(str(path)), Content(), b""
    with _reading(path) as file:
        first = file.readline()
        head = _header_of(first, where)
        if not first.endswith(b"\n"):
            raise LoadError(f"{where} ends within its first line.", "It holds no history yet.")
        for number, line in enumerate(file, start=2):
            if not line.endswith(b"\n"):
                torn = line
                break
            try:
                _read(loads(line), found)
            except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
                raise LoadError(
                    f"line {number} of {where} is damaged: {getattr(error, 'what', error)}.",
                    "Of a history that was cut off only the last line is torn, and this one has an end.",
                    "Restore the file; or take the line out to lose what it says.",
                ) from error
    if torn:
        warnings.warn(
            f"the last line of {path} is torn after {len(torn)} bytes and was left out: whoever wrote it was stopped "
            f"in the middle. {counted(len(found.records), 'record')} up to step "
            f"{max((one.step for one in found.records), default=0)} are whole.",
            TornHistoryWarning,
            stacklevel=3,
        )
    return head, found


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "it is no file")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise LoadError(f"{repr_quoted(str(path))} can't be read: {error.strerror}.") from error


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
        values = dict(line["values"])
        columns = [from_json(value, count) for value in values.values()]
        # One tuple of names for all records that have the same.
        names = found.names.setdefault(names := tuple(values), names)
        why = {str(name): str(said) for name, said in dict(line.get("unmeasured", {})).items()}
        found.records.append(
            Record(step=int(line["step"]), first=first, columns=Columns(names, columns), unmeasured=why)
        )


def _line(item: Item) -> bytes:
    line: dict[str, Any]
    if isinstance(item, Head):
        line = {**KIND.header, **plain(item)}
    elif isinstance(item, Record):
        values = {name: to_json(column) for name, column in item.columns.items()}
        line = {"step": item.step, "first": item.first, "count": len(item), "values": values}
        if item.unmeasured:
            line["unmeasured"] = dict(item.unmeasured)
    elif isinstance(item, Event):
        line = {"event": plain(item)}
    else:
        line = {"series": [plain(one) for one in item]}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _cut_torn(path: Path) -> None:
    """Take off a last line that has no end, so that what follows begins a line of its own."""
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
