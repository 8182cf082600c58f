"""Stop the build when a public name has no docstring, or no place in the API pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.exceptions import PluginError

ROOT = Path(__file__).parents[2]
# Rooms that users open themselves, with names of their own.
PUBLIC_ROOMS = ("lab",)


def undocumented(package: griffe.Module, pages: str) -> list[str]:
    """Say which names of a package's stub lack a docstring in the source, or a `::: torchdecay.NAME` in the pages."""
    shown = set(re.findall(r"^::: (\S+)$", pages, re.MULTILINE))
    found = []
    for name, target in sorted(package.imports.items()):
        path, member = f"{package.path}.{name}", package.members.get(name)
        # Rooms have pages of their own.
        if target == path or name.startswith("_"):
            continue
        if path not in shown:
            found.append(f"docs/api*.md has no `::: {path}`")
        if member is None or member.docstring is None or not member.docstring.value.strip():
            found.append(f"{path} has no docstring")
    return found


def check(root: Path = ROOT) -> list[str]:
    """Look at the package and the pages as they stand under a root folder."""
    package = griffe.load("torchdecay", search_paths=[root / "src"], resolve_aliases=True)
    pages = "\n".join(path.read_text(encoding="utf-8") for path in sorted((root / "docs").glob("api*.md")))
    rooms = [package, *(package[room] for room in PUBLIC_ROOMS if room in package.members)]
    return [line for room in rooms for line in undocumented(room, pages)]


def on_config(config: Any) -> Any:
    """Take part in the build: MkDocs calls this before it reads the pages."""
    missing = check()
    if missing:
        raise PluginError("Every public name needs documentation:\n  " + "\n  ".join(missing))
    return config
