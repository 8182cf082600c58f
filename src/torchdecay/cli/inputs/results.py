"""A result from a file that the package wrote, by what the file says it is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from torchdecay.errors import LoadError
from torchdecay.text import listing

CLASSES = {
    "plan": "plans.plan:Plan",
    "audit": "observe.audit.result:Audit",
    "alarms": "observe.monitor.meant:AlarmFindings",
    "lint": "integrations.lint.result:Lint",
    "inspection": "observe.inspect:Inspection",
    "verification": "observe.verify.result:Verification",
    "forecast": "observe.forecast.result:Forecast",
    "history": "observe.monitor.history:History",
    "rescaled": "observe.units.rescaled:Rescaled",
    "suggestion": "observe.units.suggestion:Suggestion",
    "comparison": "lab.comparisons.comparison:Comparison",
    "sweep": "lab.sweeps.result:Sweep",
    "ladder": "lab.sweeps.ladder:Ladder",
    "example": "lab.example:WorkedExample",
    "run": "observe.recorded.record:RunRecord",
}
"""What a file may say it is, and the class that reads it."""
NEEDED = f"Give a file that torchdecay wrote: {listing([*CLASSES])}."
NAMES = ("results.json", "summary.json", "sweep.json")
"""What compare, run and sweep call theirs in their folders."""


def folders_in(path: Path) -> list[Path]:
    """The folders with results in a folder that has none itself, by name; else what was given."""
    if not path.is_dir() or any((path / name).exists() for name in NAMES):
        return [path]
    found = [one for one in path.iterdir() if any((one / name).is_file() for name in NAMES)]
    numbered = re.compile(r"(\d+)").split
    return sorted(found, key=lambda one: [int(part) if part.isdigit() else part for part in numbered(one.name)]) or [
        path
    ]


def _is_history(line: str) -> bool:
    from torchdecay.kinds import kind_of

    try:
        return kind_of(line) == "history"
    except LoadError:
        return False


def load_result(path: Path, wanted: str = "") -> Any:
    """What a file, or the folder that compare, run or sweep wrote, holds; code that a plan names is not imported."""
    from torchdecay.kinds import kind_of

    if path.is_dir():
        path = next((path / name for name in reversed(NAMES) if (path / name).exists()), path / NAMES[0])
    try:
        with path.open(encoding="utf-8") as file:
            # The first line of a history says so, and it may be long.
            text = file.readline()
            text += "" if _is_history(text) else file.read()
    except (OSError, UnicodeDecodeError) as error:
        fix = "Write one: torchdecay plan my_project:make_model --save plan.json." if wanted else NEEDED
        raise LoadError(f"{path} can't be read: {error}.", fix=fix) from error
    try:
        if text.lstrip()[:1] == "<":
            raise LoadError("it is a page, made for a browser.", fix="Give the file that it was made of.")
        kind = wanted or kind_of(text)
        if kind == "baseline":
            raise LoadError("it is a baseline, no result.", fix="Give it to --baseline of audit or lint.")
        if kind not in CLASSES:
            raise LoadError(f"it is a {kind}, of which nothing is known.", fix="Upgrade torchdecay.")
        module, _, name = CLASSES[kind].partition(":")
        cls = getattr(importlib.import_module(f"torchdecay.{module}"), name)
        if kind in ("history", "run"):
            return cls.load(path if kind == "history" else path.parent)
        return cls.from_json(text, callables="describe")
    except LoadError as error:
        raise LoadError(f"{path}: {error.what}", error.why, error.fix) from error
