"""Values to JSON and back: a closed set of frozen dataclasses and enums, each tagged with its class name.

Nothing is imported or called while reading, except user callables that the caller explicitly allowed.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import re
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from torchdecay.errors import LoadError, nearest, repr_quoted

T = TypeVar("T", bound=type)
_KNOWN: dict[str, type] = {}


def value_type(cls: T) -> T:
    """Class decorator: instances of this frozen dataclass or enum may travel in a plan's JSON."""
    _KNOWN[cls.__name__] = cls
    return cls


@value_type
@dataclasses.dataclass(frozen=True)
class Opaque:
    """Stands for a value that JSON could only describe; it prints and compares, but nothing can run it."""

    description: str

    def __repr__(self) -> str:
        return self.description


def encode(value: Any, *, opaque: bool = False) -> Any:
    """The JSON form of a value: numbers, strings, lists and tagged objects only.

    Args:
        value: the value.
        opaque: describe what can't be read back, as `Opaque`, in place of raising.

    Raises:
        LoadError: for anything that could not be read back as the same value.
    """
    try:
        return _encode(value, opaque)
    except LoadError:
        if not opaque:
            raise
        return {"type": "Opaque", "description": repr(value)}


def _encode(value: Any, opaque: bool) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, enum.Enum) and type(value).__name__ in _KNOWN:
        return {"type": type(value).__name__, "value": value.value}
    if isinstance(value, (tuple, list)):
        return [encode(item, opaque=opaque) for item in value]
    if dataclasses.is_dataclass(value) and type(value).__name__ in _KNOWN:
        pairs = ((f.name, getattr(value, f.name), f) for f in dataclasses.fields(value))
        return {"type": type(value).__name__} | {
            name: encode(item)
            for name, item, f in pairs
            if f.default is dataclasses.MISSING or item != f.default
        }
    if callable(value):
        return {"type": "callable", "value": qualname(value)}
    raise LoadError(
        f"{value!r} cannot be written as JSON.",
        "A plan file holds only values that can be read back as the same value.",
        "For a reference or mask made of tensors, save them to a file and give its path, or give a name such as "
        '"pretrained" and bind it with attach(..., bind={"pretrained": tensors}).',
    )


Callables = Literal["refuse", "import", "describe"]


def decode(data: Any, *, callables: Callables = "refuse") -> Any:
    """The value that `encode` wrote.

    Args:
        data: what `json.loads` returned.
        callables: what to do with a `module:qualname`: "refuse" it, "import" it, or "describe" it as `Opaque`.

    Raises:
        LoadError: an unknown tag, a missing or unknown field, or a callable that was refused.
    """
    if isinstance(data, list):
        return tuple(decode(item, callables=callables) for item in data)
    if not isinstance(data, dict):
        return data
    tag = data.get("type")
    if tag == "callable":
        return _resolve(str(data.get("value")), callables)
    cls = _KNOWN.get(tag) if isinstance(tag, str) else None
    if cls is None:
        raise LoadError(
            f"unknown type {repr_quoted(str(tag))} in a plan file.",
            "The file was edited by hand, or written by a newer version of torchdecay.",
            nearest(str(tag), _KNOWN),
        )
    fields = {
        key: decode(item, callables=callables) for key, item in data.items() if key != "type"
    }
    if issubclass(cls, enum.Enum):
        return cls(fields.get("value"))
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(fields) - known)
    if unknown:
        raise LoadError(
            f"{tag} has no field {repr_quoted(unknown[0])} in a plan file.",
            "The file was edited by hand, or written by a newer version of torchdecay.",
            nearest(unknown[0], known),
        )
    try:
        return cls(**fields)
    except TypeError as error:
        raise LoadError(f"{tag} in a plan file is incomplete: {error}.") from error


def qualname(function: Callable[..., Any]) -> str:
    """`module:qualname` of a function that can be found again under that name.

    Raises:
        LoadError: for lambdas, local functions and instances.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module is None or "<" in name or not name:
        raise LoadError(
            f"{function!r} cannot be written as JSON.",
            "A plan file names a callable as module:qualname, and this one has no such name.",
            "Define it with def at the top of a module.",
        )
    return f"{module}:{name}"


def _resolve(name: str, callables: Callables) -> Any:
    if not re.fullmatch(r"[\w.]+:[\w.]+", name):
        raise LoadError(f"{repr_quoted(name)} is not of the form module:qualname.")
    if callables == "describe":
        return Opaque(name)
    if callables == "refuse":
        raise LoadError(
            f"the plan file names the callable {repr_quoted(name)}.",
            "Reading it would import and later run that code.",
            'If you trust the file, pass callables="import".',
        )
    module, _, attributes = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError) as error:
        raise LoadError(
            f"the callable {repr_quoted(name)} in a plan file cannot be found: {error}."
        ) from error
    if not callable(found):
        raise LoadError(f"{repr_quoted(name)} in a plan file is not callable.")
    return found
