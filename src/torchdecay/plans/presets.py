"""Presets: forms of decay that have a name, each declared once, by a decorator on the function that makes it.

The name goes both ways. A `Decay` is printed as the call that makes it: of the presets with its axes, the one that
makes an equal value from the arguments that are read off it. And a spelling, `decoupled:0.1`, is that call. What is
said of all forms (`td.forms`, help, pages of the docs, tests) is said of `PRESETS`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from torchdecay.errors import DecayError, UnitError
from torchdecay.numbers import read_number
from torchdecay.plans.controllers import ROW_GATES, RowGate
from torchdecay.plans.references import Average
from torchdecay.plans.schedules import Constant
from torchdecay.text import repr_quoted, spelled

F = TypeVar("F", bound=Callable[..., Any])

SHARED = {
    "wd": "λ, at least 0.",
    "max_lr": "η_max, above 0; None takes each group's own peak.",
    "schedule": "multiplier over the steps really taken.",
    "mask": "entries that take part.",
    "rows": '"all", "touched" or "lazy", as in `decoupled`.',
    "per": 'the slices that have a norm each: "tensor", "row", "column", or "expert", what lies along the first '
    "dimension; None is each expert of three dimensions, else the tensor.",
    "radius": 'R: "initial" (the norm at attach), "current" (that before each step), or a number above 0.',
}
"""What arguments mean that many forms take: said here once, and in the help of each form that does not say more."""
RAISES = "Raises:\n    DecayError: what is no number, or one outside its range.\n\n"

AXES = ("regularizer", "reference", "gate", "controller", "update")
"""Axes of a Decay that hold a value with numbers of its own."""


@dataclass(frozen=True, eq=False)
class Preset:
    """A form of decay that has a name.

    Attributes:
        make: the function of that name, from arguments to a Decay.
        example: arguments, as a spelling has them after the colon.
        reads: argument → how it is read off a Decay, where neither an axis nor a number in one is called so.
    """

    make: Callable[..., Any]
    example: str
    reads: Mapping[str, Callable[[Any], Any]]

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.make.__name__

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """What the function takes."""
        return inspect.signature(self.make).parameters

    @property
    def usage(self) -> str:
        """The call with the arguments that can be spelled on a command line."""
        return f"{self.name}({', '.join(key for key in self.parameters if key not in ('schedule', 'mask', 'rows'))})"

    @property
    def spelling(self) -> str:
        """The example, as a command line has it."""
        return f"{self.name}:{self.example}"

    @property
    def summary(self) -> str:
        """The first line of what the function says about itself."""
        return (inspect.getdoc(self.make) or "").partition("\n")[0]

    @cached_property
    def shown(self) -> Any:
        """The Decay of the example."""
        return self.call(self.example)

    def call(self, text: str) -> Any:
        """The Decay from arguments as a spelling has them."""
        quoted = repr_quoted(f"{self.name}:{text}" if text else self.name)
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for part in filter(None, text.split(",")):
            key, equals, value = part.partition("=")
            key = key.strip()
            if equals and key in named:
                raise DecayError(f"the decay {quoted} says {key} twice.", fix="Say it once.")
            if equals:
                named[key] = number_or_word(value)
            else:
                positional.append(number_or_word(part))
        try:
            inspect.signature(self.make).bind(*positional, **named)
        except TypeError as error:
            raise DecayError(
                f"the decay {quoted} does not fit {self.usage}: {error}.",
                fix=f"Write it as {self.spelling}, say, or {self.name}:KEY=VALUE,KEY=VALUE.",
            ) from error
        return self.make(*positional, **named)

    def arguments(self, decay: Any) -> dict[str, Any] | None:
        """The arguments of the call that makes this Decay, but for max_lr; None where no call does."""
        if _kind(decay) != _kind(self.shown):
            return None
        found = {key: self._read(key, decay) for key in self.parameters}
        try:
            made = self.make(**found)
        except DecayError:
            return None
        return found if made == (decay if "max_lr" in found else decay.replace(max_lr=None)) else None

    def _read(self, key: str, decay: Any) -> Any:
        if key in self.reads:
            return self.reads[key](decay)
        if key == "wd":
            return decay.coefficient
        if key == "rows":
            return next((rows for rows, gate in ROW_GATES.items() if gate == decay.gate), "all")
        holders = (decay, *(getattr(decay, axis) for axis in AXES))
        return next((getattr(one, key) for one in holders if hasattr(one, key)), self.parameters[key].default)


def number_or_word(text: str) -> int | float | str:
    """What a person typed: a whole number, a number, or else a word."""
    for kind in (int, read_number):
        with suppress(ValueError, UnitError):
            return kind(text)
    return text.strip()


PRESETS: dict[str, Preset] = {}
"""Every preset by name, in the order of their declaration."""


def preset(example: str, **reads: Callable[[Any], Any]) -> Callable[[F], F]:
    """Declare that a function makes a form of decay with a name: the function's.

    Args:
        example: arguments of a call, as a spelling has them after the colon: "0.1,ratio=2".
        reads: for an argument that no axis, and no number in a regularizer, reference, gate or controller, is called
            like, how it is read off a Decay. `wd` is the coefficient.

    Example:
        >>> from torchdecay.plans.presets import PRESETS
        >>> PRESETS["norm_control"].spelling, PRESETS["norm_control"].usage
        ('norm_control:0.1,ratio=0.5', 'norm_control(wd, ratio, per)')
    """

    def declare(make: F) -> F:
        PRESETS[make.__name__] = one = Preset(make, example, reads)
        make.__doc__ = _with_shared(inspect.getdoc(make) or "", one.parameters)
        return make

    return declare


def _with_shared(said: str, parameters: Iterable[str]) -> str:
    """A form's docstring, with what it leaves to `SHARED` and `RAISES`."""
    text, *example = re.split(r"(?m)^(?=Example:$)", said)
    text, *raises = re.split(r"(?m)^(?=Raises:$)", text)
    text, *own = re.split(r"(?m)^Args:\n", text)
    told = SHARED | dict(re.findall(r"(?m)^    (\w+): (.*(?:\n     .*)*)", "".join(own)))
    lines = (f"    {name}: {told[name]}\n" for name in parameters if name in told)
    return "".join([text.rstrip(), "\n\nArgs:\n", *lines, "\n", *(raises or [RAISES]), *example])


def _kind(decay: Any) -> tuple[Any, ...]:
    """What presets differ in, but for their numbers."""
    gate = None if isinstance(decay.gate, RowGate) else decay.gate
    reference = None if decay.reference is None else isinstance(decay.reference, Average)
    return decay.site, decay.scale, decay.proximal, reference, type(gate), type(decay.steering)


def _call(decay: Any) -> tuple[Preset | None, dict[str, Any]]:
    found = ((one, one.arguments(decay)) for one in PRESETS.values())
    return next(((one, arguments) for one, arguments in found if arguments is not None), (None, {}))


def form_of(decay: Any) -> str:
    """The name of the preset that makes this Decay, or "custom"."""
    one, _ = _call(decay)
    return "custom" if one is None else one.name


def spell(decay: Any) -> str:
    """The call that makes this Decay, as people write it; defaults are left out."""
    one, arguments = _call(decay)
    peak = "" if decay.max_lr is None else f"max_lr={spelled(decay.max_lr)}"
    if one is not None:
        parts = []
        for key, value in arguments.items():
            parameter = one.parameters[key]
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                parts.append(_said(value))
            elif value != (Constant() if key == "schedule" else parameter.default):
                parts.append(f"{key}={_said(value)}")
        call = f"{one.name}({', '.join(parts)})"
        return f"{call}.replace({peak})" if peak and "max_lr" not in arguments else call
    parts = [f"coefficient={spelled(decay.coefficient)}", f"site={decay.site}", f"scale={decay.scale}"]
    parts += [f"{axis}={getattr(decay, axis)!r}" for axis in AXES if getattr(decay, axis) is not None]
    parts += ["proximal=True"] if decay.proximal else []
    parts += [peak] if peak else []
    parts += [] if decay.schedule == Constant() else [f"schedule={decay.schedule!r}"]
    parts += [] if decay.mask is None else [f"mask={decay.mask!r}"]
    return f"Decay({', '.join(parts)})"


def _said(value: Any) -> str:
    return spelled(value) if isinstance(value, (int, float)) else repr(value)
