"""Where the metric of a command is read: in what it prints, in a file that it writes, or in TensorBoard's events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torchdecay.errors import TaskError, need
from torchdecay.text import printable, repr_quoted

_AROUND = "\"' ,;:)]}>%"
"""What a pattern such as (\\S+) takes along with a number."""


class Reader(Protocol):
    """Reads the metric of one run."""

    def read(self, lines: Iterable[str]) -> list[float]:
        """The values that came since, given the lines that were printed since."""

    def why_none(self) -> str:
        """Why there was none, in words."""


class Metric(Protocol):
    """A way to read the metric of a command."""

    @property
    def name(self) -> str:
        """What the metric is called."""

    @property
    def spec(self) -> str:
        """As it was asked for."""

    def reader(self, out: Path) -> Reader:
        """A reader for one run, whose folder is `out`."""


@dataclass(frozen=True)
class Printed:
    r"""A pattern over what is printed, line by line.

    Args:
        pattern: a regular expression with one group, which takes the number: "val_loss=(\\S+)".

    Raises:
        TaskError: no pattern, or none with one group.

    Example:
        >>> Printed(r"val_loss=(\\S+)").name
        'val_loss'
    """

    pattern: str

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise TaskError(
                f"the metric '{printable(self.pattern)}' is no pattern: {error}.",
                "It is a regular expression, which is looked for in each line of the output.",
                r"Write the text before the number and a group for it: 'val_loss=(\S+)'.",
            ) from error
        if groups != 1:
            raise TaskError(
                f"the metric '{printable(self.pattern)}' has {groups or 'no'} groups.",
                "What stands in its one group is the number.",
                r"Put the number in parentheses, 'val_loss=(\S+)', and write (?:...) for others.",
            )

    @property
    def spec(self) -> str:
        """The pattern."""
        return self.pattern

    @property
    def name(self) -> str:
        """The words before the number."""
        before = re.sub(r"\\[a-zA-Z]|\(\?:?|[^\w .:/-]", " ", self.pattern.split("(", 1)[0])
        return " ".join(before.split()).strip(" .:-/") or "metric"

    def reader(self, out: Path) -> Reader:
        """A reader for one run."""
        return _OfLines(re.compile(self.pattern))


@dataclass
class _OfLines:
    pattern: re.Pattern[str]
    other: str = ""

    def read(self, lines: Iterable[str]) -> list[float]:
        found = []
        for line in lines:
            for match in self.pattern.finditer(line):
                text = (match[1] or "").strip(_AROUND)
                try:
                    found.append(float(text))
                except ValueError:
                    self.other = match[0]
        return found

    def why_none(self) -> str:
        said = f"the metric's pattern '{printable(self.pattern.pattern)}'"
        if self.other:
            return f"{said} found {repr_quoted(self.other[:80])}, which holds no number"
        return f"{said} matched nothing of what was printed"


@dataclass(frozen=True)
class Filed:
    """A value in a file of JSON, or of JSON lines.

    Args:
        path: of the file, with `{out}` in it, so that each run has its own.
        key: of the value, dots between those of objects inside of objects: "eval.loss".

    Raises:
        TaskError: a path without `{out}`, or no key.

    Example:
        >>> Filed("{out}/metrics.jsonl", "val_loss").name
        'val_loss'
    """

    path: str
    key: str

    def __post_init__(self) -> None:
        if not self.key or not self.path:
            raise TaskError(
                f"the metric's file is {repr_quoted(self.spec if self.key else self.path)}.",
                "It must say which file, and which value in it.",
                "Write FILE:KEY, '{out}/metrics.jsonl:val_loss' say.",
            )
        if "{out}" not in self.path:
            raise TaskError(
                f"the metric's file {repr_quoted(self.path)} is the same for every run.",
                "What one wrote would be read as another's.",
                "Let the command write it into {out}, the run's own folder: '{out}/metrics.jsonl:val_loss'.",
            )

    @property
    def spec(self) -> str:
        """As it is typed."""
        return f"{self.path}:{self.key}"

    @property
    def name(self) -> str:
        """The key."""
        return self.key

    def reader(self, out: Path) -> Reader:
        """A reader for one run."""
        return _OfFile(Path(self.path.replace("{out}", str(out))), self.key)


@dataclass
class _OfFile:
    path: Path
    key: str
    seen: int = 0
    stamp: tuple[int, int] = (0, 0)

    def read(self, lines: Iterable[str]) -> list[float]:
        try:
            now = self.path.stat()
            if self.stamp == (now.st_mtime_ns, now.st_size):
                return []
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        self.stamp = now.st_mtime_ns, now.st_size
        values = [value for record in _records(text) for value in _values(record, self.key.split("."))]
        # A file that is written anew with each value holds the last one only.
        new = values[self.seen :] if len(values) > self.seen else values[-1:] if len(values) == 1 else []
        self.seen = len(values)
        return new

    def why_none(self) -> str:
        if not self.path.exists():
            return f"{self.path} was not written"
        return f"{self.path} holds no number under {repr_quoted(self.key)}"


def _records(text: str) -> Iterator[Any]:
    try:
        yield json.loads(text)
        return
    except ValueError:
        pass
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            # The last one may be half written.
            continue


def _values(record: Any, keys: list[str]) -> Iterator[float]:
    if isinstance(record, list):
        for one in record:
            yield from _values(one, keys)
    elif keys and isinstance(record, dict):
        # A key may have dots of its own.
        whole = ".".join(keys)
        if whole in record:
            yield from _values(record[whole], [])
        elif keys[0] in record:
            yield from _values(record[keys[0]], keys[1:])
    elif not keys and record is not None and not isinstance(record, (bool, dict)):
        try:
            yield float(record)
        except ValueError:
            return


@dataclass(frozen=True)
class Tagged:
    """A scalar in TensorBoard's event files, anywhere in the folder of a run.

    Args:
        tag: of the scalar, "val/loss" say.

    Raises:
        MissingExtra: TensorBoard is not installed.
    """

    tag: str

    def __post_init__(self) -> None:
        need("tensorboard.backend.event_processing.event_file_loader", "tensorboard")

    @property
    def spec(self) -> str:
        """The tag."""
        return f"TensorBoard's {self.tag}"

    @property
    def name(self) -> str:
        """The tag."""
        return self.tag

    def reader(self, out: Path) -> Reader:
        """A reader for one run."""
        return _OfEvents(out, self.tag)


@dataclass
class _OfEvents:
    out: Path
    tag: str
    loaders: dict[Path, Any] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)

    def read(self, lines: Iterable[str]) -> list[float]:
        loading = need("tensorboard.backend.event_processing.event_file_loader", "tensorboard")
        numbers = need("tensorboard.util.tensor_util", "tensorboard").make_ndarray
        found: list[float] = []
        for path in sorted(self.out.rglob("*tfevents*")):
            if path not in self.loaders:
                self.loaders[path] = loading.EventFileLoader(str(path))
            for event in self.loaders[path].Load():
                for value in event.summary.value:
                    if value.tag != self.tag:
                        self.others.add(value.tag)
                    else:
                        found += map(float, numbers(value.tensor).flatten())
        return found

    def why_none(self) -> str:
        if not self.loaders:
            return f"no event file of TensorBoard's was written into {self.out}"
        there = f"; it has {', '.join(sorted(self.others)[:8])}" if self.others else ""
        return f"TensorBoard's events have no scalar {repr_quoted(self.tag)}{there}"
