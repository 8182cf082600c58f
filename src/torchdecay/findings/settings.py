"""What pyproject.toml says: the table of a command, its keys checked."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchdecay.errors import LoadError
from torchdecay.text import nearest, repr_quoted

Shape = type[Any] | tuple[type[Any], ...]
LINT: dict[str, Shape] = {"select": list, "ignore": list, "severity": dict, "baseline": str}
AUDIT: dict[str, Shape] = LINT | {"ignore": (list, dict)}
MONITOR: dict[str, Shape] = {"ignore": (list, dict), "severity": dict}
"""The keys of each table, and what stands there."""


def read_settings(section: str, known: Mapping[str, Shape]) -> tuple[Path, dict[str, Any]]:
    """The table `[tool.torchdecay.SECTION]` of the nearest pyproject.toml, from here up, and its folder."""
    here = Path.cwd()
    path = next((one / "pyproject.toml" for one in (here, *here.parents) if (one / "pyproject.toml").is_file()), None)
    if path is None:
        return here, {}
    text = path.read_text(encoding="utf-8", errors="replace")
    # Reading TOML takes longer than looking for the word.
    if "torchdecay" not in text:
        return path.parent, {}
    table = _table(path, text, section)
    for key, value in table.items():
        where = f"{path.name}: [tool.torchdecay.{section}] {key}"
        if key not in known:
            raise LoadError(f"{where}: there is no such key.", fix=nearest(key, known) or f"Keys: {', '.join(known)}.")
        if not isinstance(value, known[key]):
            shape = known[key]
            names = " or ".join(_SPOKEN[kind] for kind in (shape if isinstance(shape, tuple) else (shape,)))
            raise LoadError(f"{where} is {value!r}.", fix=f"Write {names}.")
    return path.parent, table


_SPOKEN: dict[type[Any], str] = {list: "a list", dict: "a table", str: "text"}


def _table(path: Path, text: str, section: str) -> dict[str, Any]:
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        table = tomllib.loads(text).get("tool", {}).get("torchdecay", {})
    except ValueError as error:
        raise LoadError(f"{path} is no TOML: {error}.", fix="Correct it.") from error
    found = table.get(section, {}) if isinstance(table, dict) else {}
    if not isinstance(found, dict):
        raise LoadError(
            f"{path.name}: tool.torchdecay.{section} is {found!r}.", fix=f"Write [tool.torchdecay.{section}]."
        )
    return found


def texts(value: Any, where: str) -> tuple[str, ...]:
    """A list of text."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise LoadError(f"{where} is {value!r}.", fix=f"Write a list of text, [{repr_quoted('WD501')}] say.")
    return tuple(value)
