"""`current`: what a run knows of the sweep that it is part of."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "TORCHDECAY_SWEEP_"
_here: list[Current] = []


@dataclass(frozen=True, kw_only=True)
class Current:
    """One run of a sweep, seen from inside.

    Attributes:
        value: the coefficient; 0 in the run without decay.
        seed: the seed.
        folder: a folder of this run's own; None for a function, which has none.
        checkpoint: the file to go on from; None where each run begins anew.

    Example:
        >>> import torchdecay as td
        >>> td.lab.current() is None  # nothing sweeps this
        True
    """

    value: float
    seed: int
    folder: Path | None = None
    checkpoint: Path | None = None

    def to_environment(self) -> dict[str, str]:
        """The variables by which a command knows it."""
        return {f"{_PREFIX}{name.upper()}": "" if value is None else str(value) for name, value in vars(self).items()}


def current() -> Current | None:
    """What the sweep says that runs this script or function now; None where none does.

    A script that knows torchdecay needs no options for it:

        run = td.lab.current()
        weight_decay = 0.1 if run is None else run.value

    Example:
        >>> current() is None
        True
    """
    return _here[-1] if _here else _of(os.environ)


@contextlib.contextmanager
def under(found: Current) -> Iterator[None]:
    """Inside, `current` says so, in this process."""
    _here.append(found)
    try:
        yield
    finally:
        _here.pop()


def _of(environment: Mapping[str, str]) -> Current | None:
    told = {name: environment.get(f"{_PREFIX}{name.upper()}", "") for name in Current.__dataclass_fields__}
    if not told["value"]:
        return None
    paths = {name: Path(told[name]) if told[name] else None for name in ("folder", "checkpoint")}
    return Current(value=float(told["value"]), seed=int(told["seed"]), **paths)
