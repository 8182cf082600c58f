"""What `torchdecay run` was asked for, on its way into the script's own process: as environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

PREFIX = "TORCHDECAY_"
DISABLE = f"{PREFIX}DISABLE"
_OFF = ("", "0", "false", "no")
FAILING: dict[str, tuple[str, ...]] = {"error": ("error",), "warning": ("error", "warning"), "never": ()}
"""Which severities of a finding are a failure, by what was asked for."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The flags of `torchdecay run`, and what it tells the script's process beside them.

    Attributes:
        out: the folder for the page; "" for none.
        overwrite: whether a folder that an earlier run wrote is replaced.
        every: steps from record to record; 0 for no records.
        by: what makes a group.
        steps: how long the run is; 0 where nobody said.
        quiet: whether nothing is said on stderr.
        apply: the decay that optimizers get in place of their own: as it is typed, or a plan's file; "" for none.
        rules: who decays then.
        optimizer: which optimizers get it, by class or number, with commas between; "" for all.
        fail_on: what findings make of the run a failure.
        plan: the file of a plan that the script's own must be equal to.
        stop_after: steps after which the script is ended; 0 for never.
        live: whether the page is written every minute, whatever share of the time that takes.
        command: what was run.
        front: what stood before it: a launcher too, where one started `torchdecay run`.
        run: an id of this run.
        pid: of the process that `torchdecay run` became.
    """

    out: str = "torchdecay-run"
    overwrite: bool = False
    every: int = 100
    by: str = "role"
    steps: int = 0
    quiet: bool = False
    apply: str = ""
    rules: str = "standard"
    optimizer: str = ""
    fail_on: str = "never"
    plan: str = ""
    stop_after: int = 0
    live: bool = False
    command: str = ""
    front: str = "torchdecay run"
    run: str = ""
    pid: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The variables of all options."""
        return tuple(name_of(one.name) for one in fields(self))

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
