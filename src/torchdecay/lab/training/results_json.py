"""Results to JSON and back. Standard JSON has no NaN: it and the infinities travel as strings."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from torchdecay.errors import LoadError
from torchdecay.lab.training.planned_and_measured import GroupCourse, PlannedAndMeasured
from torchdecay.lab.training.results import (
    CURVES,
    Comparison,
    Failure,
    LineScan,
    PlannedRow,
    PlanSummary,
    TrainingRun,
)
from torchdecay.observe.monitor.series import Event

FORMAT, VERSION = "torchdecay.comparison", 1
T = TypeVar("T")


def write(comparison: Comparison) -> str:
    """`Comparison.to_json`, which documents it."""
    head = {"format": FORMAT, "version": VERSION}
    # Derived words travel along for readers of the file that do not run Python; reading ignores them.
    derived = {"verdict": comparison.verdict} if comparison.runs else {}
    return json.dumps(head | plain(comparison) | derived, ensure_ascii=False, allow_nan=False, indent=1)


def read(text: str) -> Comparison:
    """`Comparison.from_json`, which documents it."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise LoadError(f"not a results file: {error}.", fix="Give the results.json that compare wrote.") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise LoadError(
            f"not a results file: it does not say format {FORMAT}.",
            fix="Give the results.json that compare wrote.",
        )
    if data.get("version") != VERSION:
        raise LoadError(
            f"the results file is of version {data.get('version')!r}; this torchdecay reads version {VERSION}.",
            fix="Upgrade torchdecay, or run the comparison again.",
        )
    try:
        return build(
            Comparison,
            data,
            labels=tuple(data["labels"]),
            runs=tuple(run_of(run) for run in data["runs"]),
            plans={label: _plan(plan) for label, plan in data["plans"].items()},
            seeds=tuple(data["seeds"]),
            facts=tuple((str(what), str(value)) for what, value in data["facts"]),
            notes=tuple(data["notes"]),
            chance_loss=_number(data["chance_loss"]),
            failures=tuple(build(Failure, failure) for failure in data["failures"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LoadError(f"the results file is incomplete: {error!r}.", fix="Run the comparison again.") from error


def plain(value: Any) -> Any:
    """A value made of dataclasses, mappings and sequences, as JSON can hold it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _curve(values: Any) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(value) for value in values)


def build(cls: type[T], data: Mapping[str, Any], **made: Any) -> T:
    """A dataclass from its fields as JSON holds them; `made` has those that need more than that."""
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    return cls(**({name: data[name] for name in names if name in data} | made))


def run_of(data: Mapping[str, Any]) -> TrainingRun:
    """One run from its JSON."""
    curves = {name: _curve(data[name]) for name in CURVES}
    line = None if data["line"] is None else _line(data["line"])
    # Files of runs that nobody forecast or monitored do not have it.
    acting = None if data.get("acting") is None else _acting(data["acting"])
    made = {"line": line, "acting": acting, "steps": tuple(data["steps"]), "seconds": float(data["seconds"])}
    return build(TrainingRun, data, **curves, **made)


def _acting(data: Mapping[str, Any]) -> PlannedAndMeasured:
    return PlannedAndMeasured(
        groups=tuple(_course(group) for group in data["groups"]),
        alarms=tuple(build(Event, event) for event in data["alarms"]),
        note=str(data["note"]),
    )


def _course(data: Mapping[str, Any]) -> GroupCourse:
    numbers = {name: _number(data[name]) for name in ("fraction", "half_life", "timescale", "timescale_epochs")}
    curves = {name: _curve(data[name]) for name in ("planned", "realized", "weight_norm")}
    made = numbers | curves | {"remarks": tuple(map(str, data["remarks"])), "steps": tuple(map(int, data["steps"]))}
    return build(GroupCourse, data, **made)


def _line(data: Mapping[str, Any]) -> LineScan:
    curves = {name: _curve(data[name]) for name in ("alphas", "train_loss", "test_loss", "penalty")}
    return build(LineScan, data, **curves, squared_norm=float(data["squared_norm"]))


def _plan(data: Mapping[str, Any]) -> PlanSummary:
    rows = tuple(build(PlannedRow, row, shape=tuple(row["shape"])) for row in data["rows"])
    return build(PlanSummary, data, rows=rows)
