"""What a file that the package wrote says that it is: its format and version."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from torchdecay.errors import LoadError
from torchdecay.text import repr_quoted

_FORMAT = "torchdecay."
UNREADABLE = (ValueError, TypeError, RecursionError)
"""What is raised of a text that is no JSON, or none that anything here can be."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file: what it says that it is.

    Attributes:
        name: "plan", "comparison", ...
        version: of the format; a file of another one is refused.
        again: how to get a file that can be read; "" for the way that most have.
    """

    name: str
    version: int = 1
    again: str = ""

    @property
    def fix(self) -> str:
        """What to do about a file that can't be read."""
        return self.again or f"Make the {self.name} again and write it with to_json()."

    @property
    def header(self) -> dict[str, Any]:
        """The first two entries of every file."""
        return {"format": _FORMAT + self.name, "version": self.version}

    def refused(self, why: object, where: str = "") -> LoadError:
        """The error for a file of another kind; `where` is its path, if that is known."""
        a = "an" if self.name[0] in "aeiou" else "a"
        return LoadError(f"{f'{where} is ' if where else ''}not {a} {self.name} file: {why}.", fix=self.fix)

    def body(self, data: Any, where: str = "") -> dict[str, Any]:
        """What a file holds below its header."""
        said = data.get("format") if isinstance(data, Mapping) else None
        if said != _FORMAT + self.name:
            other = f", but {repr_quoted(said)}" if isinstance(said, str) else ""
            raise self.refused(f"it does not say format {_FORMAT}{self.name}{other}", where)
        if data.get("version") != self.version:
            version, versions = data.get("version"), data.get("versions")
            writer = versions.get("torchdecay") if isinstance(versions, Mapping) else None
            newer = isinstance(version, int) and version > self.version
            raise LoadError(
                f"{where or f'the {self.name} file'} is of version {version!r}; this torchdecay reads version "
                f"{self.version}.",
                f"It was written by torchdecay {writer}." if writer else "",
                "Upgrade torchdecay." if newer else self.fix,
            )
        return {key: item for key, item in data.items() if key not in ("format", "version")}


def kind_of(text: str) -> str:
    """What a file says it is: "plan", "comparison", "history", ..."""
    try:
        # The first value alone: of a history, which has a line for each record, its header.
        said = json.JSONDecoder().raw_decode(text.lstrip())[0].get("format")
    except (*UNREADABLE, AttributeError):
        said = None
    if not isinstance(said, str) or not said.startswith(_FORMAT):
        raise LoadError("the file does not say that torchdecay wrote it.", fix=f"Give one with a format {_FORMAT}….")
    return said.removeprefix(_FORMAT)
