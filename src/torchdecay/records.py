"""Values to JSON and back: a closed set of frozen dataclasses and enums, each tagged with its class name.

Nothing is imported or called while reading, except user callables that the caller explicitly allowed.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import re
import reprlib
import sys
import types
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from torchdecay.errors import LoadError, nearest, repr_quoted

T = TypeVar("T", bound=type)
V = TypeVar("V")
_KNOWN: dict[str, type] = {}
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_EDITED = "The file was edited by hand, or written by a newer version of torchdecay."


def value_type(cls: T) -> T:
    """Class decorator: instances of this frozen dataclass or enum may travel in a plan's JSON."""
    _KNOWN[cls.__name__] = cls
    return cls


@value_type
@dataclasses.dataclass(frozen=True)
class Opaque:
    """Stands for a value that JSON could only describe; it prints and compares, but nothing can run it."""

    description: str

    @property
    def needs_lr(self) -> bool:
        """As a schedule asks: unknown, so that nothing is refused for it."""
        return True

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
        # Without addresses, so that the same plan is the same text in every process.
        return {"type": "Opaque", "description": _ADDRESS.sub("", repr(value))}


def _encode(value: Any, opaque: bool) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Real):
        # A number of numpy's: it equals the plain one that is read back.
        return int(value) if isinstance(value, Integral) else float(value)
    # By identity: a user's own class may be called Linear too.
    known = _KNOWN.get(type(value).__name__) is type(value)
    if isinstance(value, enum.Enum) and known:
        return {"type": type(value).__name__, "value": value.value}
    if isinstance(value, tuple):
        return [encode(item, opaque=opaque) for item in value]
    if isinstance(value, list):
        return {"type": "list", "items": [encode(item, opaque=opaque) for item in value]}
    if dataclasses.is_dataclass(value) and known:
        pairs = ((f.name, getattr(value, f.name), f) for f in dataclasses.fields(value))
        return {"type": type(value).__name__} | {
            name: encode(item, opaque=opaque)
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
        LoadError: an unknown tag, a missing or unknown field, a value that its field can't hold, or a callable that
            was refused.
    """
    if isinstance(data, list):
        return tuple(decode(item, callables=callables) for item in data)
    if not isinstance(data, dict):
        return data
    tag = data.get("type")
    if tag == "callable":
        return _resolve(str(data.get("value")), callables)
    fields = {key: decode(item, callables=callables) for key, item in data.items() if key != "type"}
    if tag == "list" and isinstance(fields.get("items"), tuple):
        return list(fields["items"])
    cls = _KNOWN.get(tag) if isinstance(tag, str) else None
    if cls is None:
        raise LoadError(f"unknown type {repr_quoted(str(tag))} in a plan file.", _EDITED, nearest(str(tag), _KNOWN))
    try:
        return cls(fields.get("value")) if issubclass(cls, enum.Enum) else cls(**_checked(cls, fields))
    except LoadError:
        raise
    except (TypeError, ValueError) as error:
        raise LoadError(f"{tag} in a plan file means nothing: {getattr(error, 'what', error)}", _EDITED) from error


def described(value: V) -> V:
    """The value as it comes back from a file read with callables="describe", for comparing with such a file."""
    found: V = decode(encode(value, opaque=True), callables="describe")
    return found


def is_opaque(value: Any) -> bool:
    """Whether an `Opaque` stands anywhere in the value, so that nothing can run it."""
    if isinstance(value, tuple):
        return any(map(is_opaque, value))
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return False
    return isinstance(value, Opaque) or any(is_opaque(getattr(value, f.name)) for f in dataclasses.fields(value))


def _checked(cls: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields, each known to the class and of the type that it declares: what a typist could have got wrong."""
    hints = _hints(cls)
    for name, item in fields.items():
        if name not in hints:
            raise LoadError(
                f"{cls.__name__} has no field {repr_quoted(name)} in a plan file.", _EDITED, nearest(name, hints)
            )
        if not _fits(item, hints[name]):
            raise LoadError(f"{name} of {cls.__name__} in a plan file cannot be {reprlib.repr(item)}.", _EDITED)
    return fields


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any or isinstance(value, Opaque):
        return True
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_fits(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if origin is not None:
        return callable(value)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


def qualname(function: Callable[..., Any]) -> str:
    """`module:qualname` of a function that can be found again under that name.

    Raises:
        LoadError: for lambdas, local functions, instances and their methods.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    for attribute in name.split("."):
        found = getattr(found, attribute, None)
    if found is None or found != function:
        raise LoadError(
            f"{function!r} cannot be written as JSON.",
            "A plan file names a callable as module:qualname, and this one has no such name.",
            "Define it with def at the top of a module.",
        )
    return f"{module}:{name}"


def _resolve(name: str, callables: Callables) -> Any:
    if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", name):
        raise LoadError(f"{repr_quoted(name)} is not of the form module:qualname.", _EDITED)
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
    except Exception as error:
        # A module that is imported runs, and may raise anything.
        raise LoadError(
            f"the callable {repr_quoted(name)} in a plan file cannot be found: {type(error).__name__}: {error}.",
            fix="Make its module importable here, or define the function there again.",
        ) from error
    if not callable(found):
        raise LoadError(f"{repr_quoted(name)} in a plan file is not callable.")
    return found
