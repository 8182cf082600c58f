"""The files that the package writes: JSON that says which format and version it is, and holds one value."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from torchdecay.encoding import Callables, decode, encode
from torchdecay.kinds import UNREADABLE, Kind

R = TypeVar("R", bound="JsonRecord")
_LARGEST = 2**64


class JsonRecord:
    """A frozen dataclass that is kept in files: `class Sweep(JsonRecord, kind="sweep")`.

    Its `_derived` and that of values in it name properties that are written too, for readers that do not run Python;
    reading leaves them out.
    """

    _kind: ClassVar[Kind]

    def __init_subclass__(cls, *, kind: str = "", version: int = 1, again: str = "", **more: Any) -> None:
        super().__init_subclass__(**more)
        if kind:
            cls._kind = Kind(kind, version, again)

    def to_json(self, *, opaque: bool = False, **more: Any) -> str:
        """Everything as JSON that `from_json` reads back to an equal value.

        Args:
            opaque: write what can't be read back (tensors in memory, a lambda) as its description in place of raising;
                such a value can be shown and compared, but nothing can run it.
            more: entries for readers that do not run Python, a verdict say; reading a result leaves them out.

        Raises:
            LoadError: tensors in memory, or a callable without a name of its own.
        """
        with collecting_later():
            return dumps(self._kind.header | more | encode(self, type(self), opaque=opaque))

    @classmethod
    def from_json(cls: type[R], text: str, *, callables: Callables = "refuse") -> R:
        """The value that `to_json` wrote.

        Args:
            text: the JSON.
            callables: what to do with a function that the file names as `module:qualname`: "refuse" it, "import" it,
                or "describe" it, which is enough to read and compare the value.

        Raises:
            LoadError: another kind of file, another version, incomplete, or edited so that it means nothing.
        """
        with collecting_later():
            try:
                data = loads(text)
            except UNREADABLE as error:
                raise cls._kind.refused(error) from error
            found: R = decode(cls._kind.body(data), cls, callables=callables, kind=cls._kind)
        return found


@contextmanager
def collecting_later() -> Iterator[None]:
    """Many small objects are made here that stay: looking for garbage among them takes as long as to make them."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def dumps(body: Mapping[str, Any]) -> str:
    """JSON whose versions differ line by line: a line for each entry, then one for each object of a list of them."""
    text = _ENCODER.encode
    entries, lists = [], []
    for key, value in body.items():
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            lists.append(f"{text(key)}: [\n  " + ",\n  ".join(map(text, value)) + "\n ]")
        else:
            entries.append(f"{text(key)}: {text(value)}")
    return "{\n " + ",\n ".join(entries + lists) + "\n}"


def loads(text: str | bytes) -> Any:
    """The data of a JSON text.

    Raises:
        ValueError, TypeError, RecursionError: no JSON, numbers that nothing here can be, or a tree too deep.
    """
    return _DECODER.decode(text if isinstance(text, str) else text.decode(json.detect_encoding(text)))


def _whole(digits: str) -> int:
    if len(digits) > 20 or not -_LARGEST < (value := int(digits)) < _LARGEST:
        raise ValueError(f"a number of {len(digits)} digits")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f'{name} is not JSON, and here is written "{name}"')


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_DECODER = json.JSONDecoder(parse_int=_whole, parse_constant=_constant)
