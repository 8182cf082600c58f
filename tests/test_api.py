"""The public names, and how they are called, as they were released: what changes here can break somebody's code."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import torchdecay as td

SIMPLE = (type, str, int, float, type(None), type(...))
PINNED = Path(__file__).parent / "golden" / "api.txt"


def line(name: str, value: Any) -> str:
    """A name with its signature; a class with its public members, a value with its type."""
    if inspect.isclass(value):
        members = sorted(one for one in dir(value) if not one.startswith("_") and one not in dir(Exception))
        return f"class {name}: {', '.join(members)}"
    if inspect.isroutine(value):
        signature = inspect.signature(value)
        # Of a default that is an object the type is the contract, not how it prints.
        kept = [one if isinstance(one.default, SIMPLE) else one.replace(default=type(one.default))
                for one in signature.parameters.values()]  # fmt: skip
        return f"def {name}{signature.replace(parameters=kept)}"
    return f"{name}: {type(value).__name__}"


def api() -> str:
    """All public names, one a line."""
    rooms = {"td": td, "td.forms": td.forms, "td.schedules": td.schedules, "td.policies": td.policies, "td.lab": td.lab,
             "td.testing": td.testing}  # fmt: skip
    found = []
    for room, module in rooms.items():
        listed = getattr(module, "__all__", None)
        for name in sorted(listed or (one for one in dir(module) if not one.startswith("_"))):
            value = getattr(module, name)
            if inspect.ismodule(value) or (listed is None and elsewhere(value, module)):
                continue
            found.append(line(f"{room}.{name}", value))
    return "\n".join(found) + "\n"


def elsewhere(value: Any, module: Any) -> bool:
    """Whether a module has a value from another one only because it uses it."""
    return getattr(value, "__module__", module.__name__) != module.__name__ or type(value).__module__ == "__future__"


def test_the_public_names_are_those_that_are_pinned() -> None:
    """A change is meant: it has a line in CHANGELOG.md, and `python tests/test_api.py` writes it here."""
    pinned, now = PINNED.read_text(encoding="utf-8").splitlines(), api().splitlines()
    gone, new = sorted(set(pinned) - set(now)), sorted(set(now) - set(pinned))
    assert not gone, "gone or changed:\n" + "\n".join(gone) + "\nnow:\n" + "\n".join(new)
    assert not new, "new:\n" + "\n".join(new)


def test_a_seeded_change_of_a_signature_is_seen() -> None:
    """An argument that is renamed is another line."""

    def one(model: object, *, plan: object = None) -> None: ...
    def other(model: object, *, plans: object = None) -> None: ...

    assert line("x", one) != line("x", other)
    assert line("x", one) == "def x(model: 'object', *, plan: 'object' = None) -> 'None'"


if __name__ == "__main__":
    PINNED.write_text(api(), encoding="utf-8")
    print(f"wrote {PINNED}", file=sys.stderr)
