"""What `torchdecay run --apply` wrote of a run: what its decay was to do, and how many steps it took."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torchdecay.errors import TorchdecayError
from torchdecay.observe.forecast.result import Forecast

RECORD, SUMMARY = "torchdecay-run", "summary.json"
"""Its folder in the folder of a run, and the file there that it writes last."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """One run that came to its end under `--apply`, and the forecast that was made at its first step."""

    coefficient: float
    forecast: Forecast
    num_steps: int


def applied_in(folder: Path) -> Mapping[str, Applied]:
    """For each decay that was applied, "decoupled:1", a run below this folder; of several optimizers the longest."""
    found: dict[str, Applied] = {}
    for path in sorted(folder.glob(f"*/{RECORD}/{SUMMARY}")):
        try:
            found.update(_of(path, path.stat().st_mtime_ns))
        except (OSError, ValueError, KeyError, TypeError, TorchdecayError):
            # Half written, or not of this version: it tells nothing.
            continue
    return found


@lru_cache(maxsize=1000)
def _of(path: Path, stamp: int) -> Mapping[str, Applied]:
    said = json.loads(path.read_text(encoding="utf-8"))
    one = max(said["optimizers"], key=lambda optimizer: optimizer["steps"])
    value = re.search(r"[:,]([^:,]+)$", one["applied"])
    if not (value and said["ended"] and one["steps"]):
        return {}
    forecast = path.with_name(f"forecast-{one['number']}.json").read_text(encoding="utf-8")
    made = Applied(coefficient=float(value[1]), forecast=Forecast.from_json(forecast), num_steps=one["steps"])
    return {one["applied"]: made}
