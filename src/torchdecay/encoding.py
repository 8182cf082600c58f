"""Values as JSON and back: trees of frozen dataclasses, enums, sequences, mappings and plain numbers.

The type hint of a field says what stands there; where that leaves it open, the value carries its class's name under
"type", and only classes that `value_type` names are found so. Nothing is imported or called while reading, except user
callables that the caller explicitly allowed. Standard JSON has no NaN: it and the infinities are "NaN", "Infinity" and
"-Infinity".
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import importlib
import math
import re
import reprlib
import sys
import types
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from torchdecay.arguments import check_word
from torchdecay.errors import LoadError
from torchdecay.kinds import Kind
from torchdecay.text import describe_error, nearest, repr_quoted

T = TypeVar("T", bound=type)
V = TypeVar("V")
Callables = Literal["refuse", "import", "describe"]

_KNOWN: dict[str, type] = {}
_OPEN: list[type] = []
_CURVES = ((float, ...), (int, ...))
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_PLAIN = (float, str, int, bool, types.NoneType)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_EDITED = "The file was edited by hand, or written by a newer version of torchdecay."


def value_type(cls: T) -> T:
    """Class decorator: a frozen dataclass or enum that people write into plans.

    It is found by its name, its fields are left out at their default, and one that it does not have is an error.
    """
    _KNOWN[cls.__name__] = cls
    return cls


def open_type(cls: T) -> T:
    """Class decorator: a base from which people derive frozen dataclasses of their own.

    Those are written as `module:qualname` with their fields, and read back where the caller allows what a file names.
    """
    _OPEN.append(cls)
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

    @property
    def form(self) -> Opaque:
        """As a regularizer without its numbers is asked for: nobody knows which those are."""
        return self

    @property
    def symbol(self) -> str:
        """As equations name it."""
        return f"{self.description}(θ)"

    def __repr__(self) -> str:
        return self.description


def plain(value: Any) -> Any:
    """A value as JSON can hold it, for readers that do not run Python: it can't be read back."""
    return encode(value, object)


def encode(value: Any, hint: Any = Any, *, opaque: bool = False, done: dict[tuple[int, Any], Any] | None = None) -> Any:
    """The JSON form of a value: numbers, strings, lists and objects only.

    Args:
        value: what is written.
        hint: what the reader will expect, as a type hint; what that does not tell, the form says.
        opaque: describe what can't be read back, as `Opaque`, in place of raising.
        done: what was written so far of values that stand in several places, as one Decay does in most rows of a plan.

    Raises:
        LoadError: for anything that could not be read back as the same value.
    """
    if value is None or value.__class__ is str:
        return value
    arms = _arms(hint)
    if type(value) is int and float in arms and int not in arms:
        # As it will be read, so that a file that was read and written again is the same.
        return float(value)
    if isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        spelled = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return spelled if float in arms or object in arms else {"type": "float", "value": spelled}
    if isinstance(value, Real):
        # A number of numpy's: it equals the plain one that is read back.
        return int(value) if isinstance(value, Integral) else encode(float(value), hint)
    if isinstance(value, tuple) or (isinstance(value, list) and object in arms):
        kinds, hints = set(map(type, value)), _item_hints(arms, len(value))
        if kinds <= {str} or (kinds == {int} and set(hints) == {int}) or _are_plain(value, float):
            return list(value)
        done = {} if done is None else done
        return [encode(item, one, opaque=opaque, done=done) for item, one in zip(value, hints, strict=True)]
    if isinstance(value, list):
        return {"type": "list", "items": [encode(item, opaque=opaque) for item in value]}
    # By identity: a user's own class may be called Linear too.
    cls: Any = type(value)
    known = _KNOWN.get(cls.__name__) is cls
    told = object in arms or cls is _home(hint)
    if isinstance(value, enum.Enum) and (known or told):
        return value.value if told else {"type": cls.__name__, "value": value.value}
    if dataclasses.is_dataclass(value) and (known or told):
        if known and done is not None and (found := done.get((id(value), hint))) is not None:
            return found
        data = {} if told else {"type": cls.__name__}
        for name, (one, default, _) in _fields(cls).items():
            item = getattr(value, name)
            if item.__class__ is str and default is dataclasses.MISSING:
                data[name] = item
            elif not known or default is dataclasses.MISSING or (item is not default and item != default):
                data[name] = encode(item, object if object in arms else one, opaque=opaque, done=done)
        data |= {name: plain(getattr(value, name)) for name in getattr(cls, "_derived", ())}
        if known and done is not None:
            done[id(value), hint] = data
        return data
    mappings = [get_args(arm)[1] for arm in arms if _is_mapping(get_origin(arm))]
    if isinstance(value, Mapping) and (mappings or object in arms):
        return {str(key): encode(item, (*mappings, object)[0], opaque=opaque) for key, item in value.items()}
    try:
        if isinstance(value, tuple(_OPEN)) and dataclasses.is_dataclass(value):
            own = {name: encode(getattr(value, name), opaque=opaque) for name in _fields(cls)}
            return {"type": "custom", "class": qualname(cls), "fields": own}
        return {"type": "callable", "value": qualname(value)}
    except LoadError:
        if not opaque:
            raise
        # Without addresses, so that the same plan is the same text in every process.
        return {"type": "Opaque", "description": _ADDRESS.sub("", repr(value))}


def decode(data: Any, hint: Any = Any, *, callables: Callables = "refuse", kind: Kind | None = None) -> Any:
    """The value that `encode` wrote for the same hint.

    Args:
        data: what `loads` returned.
        hint: what is expected, as a type hint.
        callables: what to do with a `module:qualname`: "refuse" it, "import" it, or "describe" it as `Opaque`.
        kind: of the file, for messages.

    Raises:
        LoadError: an unknown tag, a missing or unknown field, a value that its field can't hold, or a callable that
            was refused.
    """
    check_word(callables, "callables", get_args(Callables), error=LoadError)
    kind = kind or Kind("plan")
    try:
        return _Reader(kind, callables).value(data, hint, kind.name)
    except RecursionError as error:
        raise kind.refused("it is nested too deep") from error


@dataclasses.dataclass(frozen=True)
class _Reader:
    kind: Kind
    callables: Callables
    # What stands in several places, as one Decay does in most rows of a plan, is read once: by field and text.
    done: dict[tuple[str, str], Any] = dataclasses.field(default_factory=dict)

    def value(self, data: Any, hint: Any, place: str) -> Any:
        """What stands at a place where the hint says what may; the first of its alternatives that fits."""
        if hint is str and data.__class__ is str:
            return data
        for arm, origin, arguments in _shapes(hint):
            if arm is Any:
                return self.untold(data, place)
            if arm is float:
                if isinstance(data, str) and data in _NOT_FINITE:
                    return _NOT_FINITE[data]
                if isinstance(data, (int, float)) and not isinstance(data, bool):
                    return self.finite(float(data), place)
            elif arm in _PLAIN:
                if type(data) is arm:
                    return data
            elif origin is Literal:
                if data in arguments:
                    return data
            elif origin is tuple:
                if isinstance(data, list) and arguments in _CURVES and _are_plain(data, arguments[0]):
                    return tuple(data)
                if isinstance(data, list) and arguments == (str, ...) and set(map(type, data)) <= {str}:
                    return tuple(data)
                if isinstance(data, list) and (arguments[-1] is Ellipsis or len(arguments) == len(data)):
                    hints = _item_hints((arm,), len(data))
                    return tuple(self.value(item, one, place) for item, one in zip(data, hints, strict=True))
            elif origin is not None:
                if _is_mapping(origin) and isinstance(data, dict):
                    return {key: self.value(item, arguments[1], place) for key, item in data.items()}
            elif arm is not _home(hint):
                continue
            elif issubclass(arm, enum.Enum):
                if data in [member.value for member in arm]:
                    return arm(data)
            elif isinstance(data, dict) and "type" not in data:
                return self.built(arm, data)
        if isinstance(data, dict) and "type" in data:
            made = self.tagged(data, place)
            if any(_fits(made, arm) for arm in _arms(hint)):
                return made
        raise LoadError(f"{place} in the {self.kind.name} file cannot be {reprlib.repr(data)}.", _EDITED)

    def untold(self, data: Any, place: str) -> Any:
        """What stands at a place of which no hint tells anything."""
        if isinstance(data, list):
            return tuple(self.untold(item, place) for item in data)
        if isinstance(data, dict):
            return self.tagged(data, place)
        return self.finite(data, place) if isinstance(data, float) else data

    def finite(self, value: float, place: str) -> float:
        if not math.isfinite(value):
            raise LoadError(
                f"{place} in the {self.kind.name} file is {value}, which no number of JSON can be.", _EDITED
            )
        return value

    def tagged(self, data: dict[str, Any], place: str) -> Any:
        """A value that says of what class it is."""
        tag, body = str(data.get("type")), {key: item for key, item in data.items() if key != "type"}
        if tag == "callable":
            return _resolve(str(body.get("value")), self.callables)
        if tag == "custom" and isinstance(body.get("fields"), dict):
            return self.custom(str(body.get("class")), body["fields"])
        if tag == "list" and isinstance(body.get("items"), list):
            return [self.untold(item, place) for item in body["items"]]
        if tag == "float" and isinstance(body.get("value"), str):
            return self.value(body["value"], float, place)
        cls = _KNOWN.get(tag) if isinstance(tag, str) else None
        if cls is None:
            raise LoadError(
                f"unknown type {repr_quoted(str(tag))} in the {self.kind.name} file.",
                _EDITED,
                nearest(str(tag), _KNOWN),
            )
        return self.value(body.get("value"), cls, tag) if issubclass(cls, enum.Enum) else self.built(cls, body)

    def custom(self, name: str, fields: dict[str, Any]) -> Any:
        """A value of a class of the user's own."""
        cls = _resolve(name, self.callables)
        if isinstance(cls, Opaque):
            return Opaque(f"{name}({', '.join(f'{key}={item!r}' for key, item in fields.items())})")
        if not (isinstance(cls, type) and issubclass(cls, tuple(_OPEN)) and dataclasses.is_dataclass(cls)):
            bases = " or ".join(one.__name__ for one in _OPEN)
            raise LoadError(f"{repr_quoted(name)} in the {self.kind.name} file is no dataclass of a {bases}.", _EDITED)
        return self.built(cls, fields)

    def built(self, cls: Any, data: dict[str, Any]) -> Any:
        """A dataclass from its fields, each of the type that it declares."""
        fields, made = _fields(cls), {}
        file = f"in the {self.kind.name} file"
        for name, item in data.items():
            if name in fields:
                hint, _, place = fields[name]
                if item.__class__ is dict:
                    made[name] = self.shared(item, hint, place)
                else:
                    made[name] = self.value(item, hint, place)
            elif cls in _KNOWN.values():
                raise LoadError(
                    f"{cls.__name__} has no field {repr_quoted(name)} {file}.", _EDITED, nearest(name, fields)
                )
        lacking = [name for name in fields if name not in made and fields[name][1] is dataclasses.MISSING]
        if lacking:
            raise LoadError(f"{cls.__name__} {file} is incomplete: it lacks {', '.join(lacking)}.", _EDITED)
        try:
            return cls(**made)
        except LoadError:
            raise
        except (TypeError, ValueError, ArithmeticError) as error:
            said = getattr(error, "what", error)
            raise LoadError(f"{cls.__name__} {file} means nothing: {said}", _EDITED) from error

    def shared(self, data: dict[str, Any], hint: Any, place: str) -> Any:
        """The value of a field, the very same where the same field says the same again, of types that are frozen."""
        key = place, repr(data)
        if key not in self.done:
            made = self.value(data, hint, place)
            if _KNOWN.get(type(made).__name__) is not type(made):
                return made
            self.done[key] = made
        return self.done[key]


@functools.cache
def _arms(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a type hint."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


@functools.cache
def _shapes(hint: Any) -> tuple[tuple[Any, Any, tuple[Any, ...]], ...]:
    """The alternatives of a type hint, each with its origin and arguments."""
    return tuple(map(_shape, _arms(hint)))


@functools.cache
def _shape(arm: Any) -> tuple[Any, Any, tuple[Any, ...]]:
    return arm, get_origin(arm), get_args(arm)


@functools.cache
def _home(hint: Any) -> Any:
    """The class that a hint leaves no doubt about: its only dataclass or enum, whose values need no name."""
    classes = [
        arm
        for arm in _arms(hint)
        if isinstance(arm, type) and (dataclasses.is_dataclass(arm) or issubclass(arm, enum.Enum))
    ]
    return classes[0] if len(classes) == 1 else None


def _item_hints(arms: tuple[Any, ...], count: int) -> list[Any]:
    """The hint of each item of a tuple."""
    if object in arms:
        return [object] * count
    for arm in arms:
        _, origin, arguments = _shape(arm)
        if origin is tuple:
            if arguments[-1] is Ellipsis:
                return [arguments[0]] * count
            if len(arguments) == count:
                return list(arguments)
    return [Any] * count


def _are_plain(data: Sequence[Any], kind: type) -> bool:
    """Whether all are finite numbers of this type: curves are most of what there is to read."""
    return set(map(type, data)) == {kind} and all(map(math.isfinite, data))


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is not None:
        return get_origin(hint) is collections.abc.Callable and (callable(value) or isinstance(value, Opaque))
    if isinstance(value, Opaque):
        # It stands for a function, or for a value of a user's own class; numbers and our own values are written out.
        return not (hint in _PLAIN or dataclasses.is_dataclass(hint) or issubclass(hint, enum.Enum))
    return isinstance(value, hint)


@functools.cache
def _fields(cls: Any) -> dict[str, tuple[Any, Any, str]]:
    """Hint and default of each field, and what it is called, but for private ones, which live in memory only."""
    hints, found = get_type_hints(cls), {}
    for one in dataclasses.fields(cls):
        made = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        if not one.name.startswith("_"):
            found[one.name] = (hints[one.name], made, f"{one.name} of {cls.__name__}")
    return found


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


def qualname(function: Any) -> str:
    """`module:qualname` of a function that can be found again under that name."""
    if not callable(function):
        raise LoadError(
            f"{function!r} cannot be written as JSON.",
            "A plan file holds only values that can be read back as the same value.",
            "For a reference or mask made of tensors, save them to a file and give its path, or give a name such as "
            '"pretrained" and bind it with attach(..., bind={"pretrained": tensors}).',
        )
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
            f"the callable {repr_quoted(name)} in a plan file cannot be found: {describe_error(error)}.",
            fix="Make its module importable here, or define the function there again.",
        ) from error
    if not callable(found):
        raise LoadError(f"{repr_quoted(name)} in a plan file is not callable.")
    return found
