"""Histories as JSONL: a line for the header, for groups, for each record and each alarm, written as it happens.

A record is a row, [step, first group, number of groups, a column for each name of the header], with null where it has
no such column, and with {group: why} at its end where decay could not be measured. A line {"columns": names} gives the
names of the rows that follow.
"""

from __future__ import annotations

import errno
import json
import os
import warnings
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any

from torchdecay.encoding import decode, plain
from torchdecay.errors import NO_ROOM, LoadError, TornHistoryWarning
from torchdecay.kinds import Kind
from torchdecay.observe.monitor.blocks import Recorder, Records
from torchdecay.observe.monitor.columns import joined, to_json
from torchdecay.observe.monitor.quantities import QUANTITIES
from torchdecay.observe.monitor.series import Event, Record, Series
from torchdecay.records import loads
from torchdecay.text import counted, repr_quoted

KIND = Kind("history", again="Give a file that td.Monitor(..., path=) or history.save() wrote.")
_AT_ONCE = 32
"""Rows that are read at once: enough to be quick, and too few for Python's collector to begin, which costs as much."""


@dataclass(frozen=True)
class Head:
    """The first line: steps from record to record, when the history was begun, by which versions, of what; columns."""

    every_steps: int
    created: str
    versions: Mapping[str, str]
    about: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = tuple(QUANTITIES)

    @property
    def fields(self) -> dict[str, Any]:
        """What a history says of itself."""
        return {name: value for name, value in vars(self).items() if name != "columns"}


@dataclass
class Content:
    """What the other lines hold, in the order in which they were written."""

    series: list[Series] = field(default_factory=list)
    records: Recorder = field(default_factory=Recorder)
    events: list[Event] = field(default_factory=list)

    def add(self, item: Sequence[Series] | Record | Event) -> None:
        """What one line holds."""
        if isinstance(item, Record):
            self.records.append(item)
        elif isinstance(item, Event):
            self.events.append(item)
        else:
            self.series += item


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
        self._columns: tuple[str, ...] = ()
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
        line, columns = _line(item, self._columns)
        text = memoryview(line)
        try:
            while text:
                text = text[self._file.write(text) :]
        except OSError:
            # A full disk takes a part of a line.
            self._file.seek(self._end)
            self._file.truncate()
            raise
        self._end, self._columns = self._file.tell(), columns

    def close(self) -> None:
        """No more lines."""
        if self._file is not None:
            self._file.close()

    def __del__(self) -> None:
        # Whoever lets go of a monitor without closing it has lost no line.
        if hasattr(self, "_file"):
            self.close()


def save(path: Path, head: Head, series: Sequence[Series], records: Records, events: Sequence[Event]) -> None:
    """Write a whole history; the file is there when it is complete."""
    columns: tuple[str, ...] = ()
    staged = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("wb") as file:
            for item in chain[Item]([head, series], records, events):
                line, columns = _line(item, columns)
                file.write(line)
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
    where, torn = repr_quoted(str(path)), b""
    with _reading(path) as file:
        first = file.readline()
        head = _header_of(first, where)
        if not first.endswith(b"\n"):
            raise LoadError(f"{where} ends within its first line.", "It holds no history yet.")
        reader = _Reader(where, head.columns)
        for line in file:
            if not line.endswith(b"\n"):
                torn = line
                break
            reader(line)
        reader.flush()
    found = reader.found
    if torn:
        warnings.warn(
            f"the last line of {path} is torn after {len(torn)} bytes and was left out: whoever wrote it was stopped "
            f"in the middle. {counted(len(found.records), 'record')} up to step "
            f"{found.records.last} are whole.",
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


class _Reader:
    """Takes lines, and reads rows many at once."""

    def __init__(self, where: str, columns: tuple[str, ...]) -> None:
        self.found = Content()
        self._where, self._columns, self._rows, self._line = where, columns, list[bytes](), 1

    def __call__(self, line: bytes) -> None:
        is_row = line.startswith(b"[")
        if not is_row or len(self._rows) == _AT_ONCE:
            self.flush()
        if is_row:
            self._rows.append(line)
        else:
            self._reads(self._read, line)
            self._line += 1

    def flush(self) -> None:
        """Read the rows that wait."""
        rows, self._rows = self._rows, []
        try:
            self._read_rows(*rows)
            self._line += len(rows)
        except _DAMAGES:
            # One by one, to find which it is.
            for row in rows:
                self._reads(self._read_rows, row)
                self._line += 1

    def _reads(self, read: Callable[[bytes], None], line: bytes) -> None:
        try:
            read(line)
        except _DAMAGES as error:
            raise LoadError(
                f"line {self._line + 1} of {self._where} is damaged: {getattr(error, 'what', error)}.",
                "Of a history that was cut off only the last line is torn, and this one has an end.",
                "Restore the file; or take the line out to lose what it says.",
            ) from error

    def _read(self, line: bytes) -> None:
        data = loads(line)
        if "series" in data:
            self.found.series += decode(data["series"], tuple[Series, ...], kind=KIND)
        elif "event" in data:
            self.found.events.append(decode(data["event"], Event, kind=KIND))
        elif "columns" in data:
            self._columns = decode(data["columns"], tuple[str, ...], kind=KIND)
        else:
            raise ValueError("it holds no groups, record, alarm or columns")

    def _read_rows(self, *lines: bytes) -> None:
        rows = _ROWS.decode(f"[{b','.join(lines).decode()}]")
        if len(rows) != len(lines):
            raise ValueError("a line has an end where no record has one")
        alike: dict[tuple[int, int], list[int]] = {}
        for place, row in enumerate(rows):
            alike.setdefault((row[1], row[2]), []).append(place)
        made = [self._block(*groups, places, [rows[place] for place in places]) for groups, places in alike.items()]
        for block in made:
            self.found.records.extend(*block)

    def _block(self, first: int, count: int, places: Sequence[int], rows: Sequence[list[Any]]) -> tuple[Any, ...]:
        """Rows of the same groups as what `Recorder.extend` takes."""
        if not 0 <= first <= first + count <= len(self.found.series):
            raise ValueError(f"groups {first} to {first + count} of {len(self.found.series)}")
        whys = {place: row.pop() for place, row in enumerate(rows) if type(row[-1]) is dict}
        unmeasured = {place: {name: str(said) for name, said in why.items()} for place, why in whys.items()}
        if {*map(len, rows)} != {3 + len(self._columns)}:
            raise ValueError(f"it has not one value for each of the {len(self._columns)} columns")
        steps, _, _, *columns = zip(*rows, strict=True)
        known = {
            name: joined(values, count)
            for name, values in zip(self._columns, columns, strict=True)
            if values.count(None) < len(values)
        }
        before = len(self.found.records)
        return first, count, [before + place for place in places], array("q", steps), known, unmeasured


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_ROWS = json.JSONDecoder(parse_constant=_no_number)
_DAMAGES = (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError)


def _line(item: Item, columns: tuple[str, ...]) -> tuple[bytes, tuple[str, ...]]:
    """A line, after rows under the names `columns`, and the names of the rows that follow."""
    lines: list[Any] = []
    if isinstance(item, Head):
        lines, columns = [{**KIND.header, **plain(item)}], item.columns
    elif isinstance(item, Record):
        if not item.columns.keys() <= {*columns}:
            columns = (*dict.fromkeys((*(columns or QUANTITIES), *item.columns)),)
            lines = [{"columns": columns}]
        values = [to_json(item.columns[name]) if name in item else None for name in columns]
        lines.append([item.step, item.first, len(item), *values, *([dict(item.unmeasured)] if item.unmeasured else [])])
    elif isinstance(item, Event):
        lines = [{"event": plain(item)}]
    else:
        lines = [{"series": [plain(one) for one in item]}]
    texts = (json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n" for line in lines)
    return "".join(texts).encode(), columns


def _cut_torn(path: Path) -> None:
    """Take off a last line that has no end, so that what follows begins a line of its own."""
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
