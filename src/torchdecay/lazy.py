"""Packages whose names are imported when they are used (PEP 562).

The one table of the names is the package's stub, `__init__.pyi`, which type checkers, editors and the docs read too:
each name on a line of its own, `from torchdecay.plans.plan import Plan as Plan`.
"""

from __future__ import annotations

import sys
from importlib import import_module

# As typing says it, which takes longer to import than all of this.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec


def attach(spec: ModuleSpec | None) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of the package with this `__spec__`."""
    assert spec is not None and spec.origin is not None
    package = spec.name
    # As the loader reads it, so that an archive will do as well as a folder.
    stub: str = spec.loader.get_data(spec.origin + "i").decode()  # type: ignore[union-attr]
    lines = (line.split() for line in stub.splitlines() if line.startswith("from "))
    home = {words[3]: words[1] for words in lines}

    def load(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = home[name]
        # A room is no attribute of its package before it is imported; to ask this package would ask here.
        if module == package or not hasattr(import_module(module), name):
            import_module(f"{module}.{name}")
        value: object = getattr(sys.modules[module], name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        # Rooms and what this file brings in are not offered.
        return sorted({*home, *(name for name in vars(sys.modules[package]) if name.startswith("__"))})

    # A star brings names, not rooms.
    return load, names, [name for name in home if home[name] != package and not name.startswith("_")]
