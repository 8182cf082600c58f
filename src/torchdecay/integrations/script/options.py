"""What `torchdecay run` was asked for, on its way into the script's own process: as environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

PREFIX = "TORCHDECAY_"
DISABLE = f"{PREFIX}DISABLE"
_OFF = ("", "0", "false", "no")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The flags of `torchdecay run`, and what it tells the script's process beside them.

    Attributes:
        out: the folder for the page.
        overwrite: whether a folder that an earlier run wrote is replaced.
        every: steps from record to record.
        by: what makes a group.
        steps: how long the run is; 0 where nobody said.
        quiet: whether nothing is said on stderr.
        command: what was run.
        run: an id of this run.
        pid: of the process that `torchdecay run` became.
    """

    out: str = "torchdecay-run"
    overwrite: bool = False
    every: int = 100
    by: str = "role"
    steps: int = 0
    quiet: bool = False
    command: str = ""
    run: str = ""
    pid: int = 0

    def to_environment(self) -> dict[str, str]:
        """A variable for each that differs from its default."""
        return {
            name_of(one.name): str(int(value) if isinstance(value, bool) else value)
            for one in fields(self)
            if (value := getattr(self, one.name)) != one.default
        }

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Options:
        """What the variables say; those that are not there, or say nothing, leave the default."""
        found: dict[str, object] = {}
        for one in fields(cls):
            text = environment.get(name_of(one.name), "")
            if text:
                kind: Any = type(one.default)
                found[one.name] = is_on(text) if kind is bool else kind(text)
        return cls(**found)  # type: ignore[arg-type]


def name_of(option: str) -> str:
    """The environment variable of an option."""
    return PREFIX + option.upper()


def is_on(text: str) -> bool:
    """What a variable that is a switch says."""
    return text.strip().lower() not in _OFF


def is_disabled(environment: Mapping[str, str]) -> bool:
    """Whether all of this is switched off."""
    return is_on(environment.get(DISABLE, ""))
