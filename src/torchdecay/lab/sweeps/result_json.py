"""Sweeps to JSON and back, by the same rules as comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torchdecay.errors import LoadError
from torchdecay.lab.sweeps.meaning import Meaning
from torchdecay.lab.sweeps.result import Point, Sweep
from torchdecay.lab.training.results import Failure
from torchdecay.lab.training.results_json import build, plain, run_of

FORMAT, VERSION = "torchdecay.sweep", 1


def write(sweep: Sweep) -> str:
    """`Sweep.to_json`, which documents it."""
    head = {"format": FORMAT, "version": VERSION}
    # Derived values travel along for readers of the file that do not run Python; reading ignores them.
    derived = {"best": plain(sweep.best), "verdict": sweep.verdict}
    return json.dumps(head | plain(sweep) | derived, ensure_ascii=False, allow_nan=False, indent=1)


def read(text: str) -> Sweep:
    """`Sweep.from_json`, which documents it."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise LoadError(f"not a sweep's file: {error}.", fix="Give the sweep.json that sweep wrote.") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise LoadError(f"not a sweep's file: it does not say format {FORMAT}.", fix="Give the one that sweep wrote.")
    if data.get("version") != VERSION:
        raise LoadError(
            f"the sweep's file is of version {data.get('version')!r}; this torchdecay reads version {VERSION}.",
            fix="Upgrade torchdecay, or run the sweep again.",
        )
    try:
        return build(
            Sweep,
            data,
            points=tuple(build(Point, point, values=_pairs(point["values"])) for point in data["points"]),
            runs=tuple(map(run_of, data["runs"])),
            seeds=tuple(data["seeds"]),
            groups=_pairs(data["groups"]),
            meanings=tuple(map(_meaning, data["meanings"])),
            facts=_pairs(data["facts"]),
            notes=tuple(data["notes"]),
            direction=tuple(data["direction"]),
            failures=tuple(build(Failure, failure) for failure in data["failures"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LoadError(f"the sweep's file is incomplete: {error!r}.", fix="Run the sweep again.") from error


def _pairs(values: Any) -> tuple[Any, ...]:
    return tuple((str(name), value) for name, value in values)


def _meaning(data: Mapping[str, Any]) -> Meaning:
    numbers = ("fraction", "half_life", "share_of_run", "total_shrink")
    return build(Meaning, data, **{name: None if data[name] is None else float(data[name]) for name in numbers})
