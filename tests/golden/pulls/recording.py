"""What audit, inspect, forecast and Monitor say of a setup, as plain values; run as a script, writes them down.

PYTHONPATH=src python tests/golden/pulls/recording.py --write [NAME ...]      writes NAME.json beside this file

Without names it writes all of them and removes those of setups that are no more. Then read the diff.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import struct
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import torchdecay as td
from golden.pulls.setups import SETUPS, Setup
from torchdecay.observe.monitor import budget

FOLDER = Path(__file__).parent
STEPS, EVERY = 6, 2
"""Steps of each training, and from record to record."""
NOISE = 1e-6
"""What a decay displaces of the weights, in proportion, below which it can't be told from float32's rounding (6e-8)."""
CURVE = 8
"""Every so many steps of a forecast's curve are kept."""


def record(make: Callable[[], Setup]) -> dict[str, Any]:
    """All that is said of a setup: before it trains, while it trains, and once more after that."""
    found: dict[str, Any] = {}
    torch.manual_seed(0)
    with _warnings() as said:
        try:
            made = make()
        except Exception as error:
            return {"made": _raised(error)}
        if not made.optimizers:
            return {"forecast": _forecast(made)}
        if made.handles:
            found["lowering"] = [_lowering(handle) for handle in made.handles]
        made.give_gradients(0)
        found["audit"] = _audit(made)
        found["audit of the optimizer alone"] = _audit_alone(made)
        found["inspect"] = _inspect(made)
        found["forecast"] = _forecast(made)
    found["warnings"] = said
    for by in ("tensor", "role"):
        torch.manual_seed(0)
        with _warnings() as said:
            made = make()
            found[f"monitor by {by}"] = _monitor(made, by)
    found["monitor by role"]["warnings"] = said
    found["after"] = _after(made)
    return found


def read(name: str) -> Any:
    """What was written down of a setup."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def plain(value: Any) -> Any:
    """A value as JSON keeps it: floats with nine digits, which tell every float32 apart; NaN and the like as text."""
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def shortest(value: float) -> float:
    """The number with the fewest digits that is the same in float32, where the columns of a history are kept."""
    kept = struct.pack("f", value)
    return next((one for one in (float(f"{value:.{n}g}") for n in range(1, 9)) if struct.pack("f", one) == kept), value)


def lines(value: Any, *, depth: int = 0, width: int = 120) -> str:
    """JSON with sorted keys, indented by one; what holds no object and fits on a line stands on one."""
    short = json.dumps(value, ensure_ascii=False, sort_keys=True)
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not inside or (len(short) + depth <= width and not any(isinstance(one, dict) for one in inside)):
        return short
    between, end = ",\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, list):
        return "[" + between[1:] + between.join(lines(one, depth=depth + 1) for one in value) + end + "]"
    items = (f"{json.dumps(key, ensure_ascii=False)}: {lines(value[key], depth=depth + 1)}" for key in sorted(value))
    return "{" + between[1:] + between.join(items) + end + "}"


def write(name: str) -> None:
    """Write down what is said of a setup now."""
    text = lines(plain(record(SETUPS[name]))) + "\n"
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


# ── what is looked at ──


def _guarded(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return look()
    except Exception as error:
        return _raised(error)


def _raised(error: Exception) -> dict[str, Any]:
    return {"raises": type(error).__name__, "says": _text(error)}


def _text(value: Any) -> list[str]:
    """How it prints where nobody looks at a terminal."""
    with contextlib.redirect_stdout(io.StringIO()):
        text = str(value)
    return [line.rstrip() for line in re.sub(r" at 0x[0-9a-f]+", " at 0x…", text).splitlines()]


def _body(result: Any) -> dict[str, Any]:
    """What its JSON says, but for the name and the version of the format."""
    return {key: value for key, value in json.loads(result.to_json()).items() if key not in ("format", "version")}


@contextlib.contextmanager
def _warnings() -> Iterator[list[list[str]]]:
    """The warnings of torchdecay, each once."""
    said: list[list[str]] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    for one in caught:
        if one.category.__module__.startswith("torchdecay"):
            text = [one.category.__name__, *_text(one.message)]
            said += [text] if text not in said else []


def _lowering(handle: Any) -> list[list[Any]]:
    """Group, decay, route, whether it is exact, why, and the names of those that are alike."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for row in handle.lowering.rows:
        alike.setdefault((row.group, repr(row.decay), row.route, row.exact, row.why), []).append(row.name)
    return [[*what, *names] for what, names in alike.items()]


def _audit(made: Setup) -> dict[str, Any]:
    def look() -> dict[str, Any]:
        loss = made.loss() if made.loss is not None else None
        model = made.model if made.named else None
        found = td.audit(made.optimizer, model=model, plan=made.plan, run=made.run, loss=loss)
        # The rest of what its JSON has stands in the text.
        rows = [[one["code"], one["severity"], one["where"], *one["names"]] for one in _body(found)["findings"]]
        return {"findings": rows, "text": _text(found)}

    return _guarded(look)


def _audit_alone(made: Setup) -> dict[str, Any]:
    def look() -> dict[str, Any]:
        found = td.audit(made.optimizer)
        return {"findings": [[one.code, one.where, *one.names] for one in found]}

    return _guarded(look)


def _inspect(made: Setup) -> dict[str, Any]:
    def look() -> dict[str, Any]:
        found = td.inspect(made.optimizer, model=made.model if made.named else None)
        body = _body(found)
        for group in body["groups"]:
            # The text has it.
            del group["swings"]
        return body | {"text": _text(found)}

    return _guarded(look)


def _forecast(made: Setup, *, with_text: bool = True) -> dict[str, Any]:
    def look() -> dict[str, Any]:
        if made.run is None:
            return {}
        model = made.model if made.named else None
        if made.of_plan is not None:
            found = td.forecast(made.plan, run=made.run, **made.of_plan)
        elif made.plan is not None:
            found = td.forecast(made.plan, run=made.run, optimizer=made.optimizer, model=model)
        else:
            found = td.forecast(made.optimizer, run=made.run, model=model)
        body = _body(found)
        for group in body["groups"]:
            curve = group["curve"]
            if curve is not None:
                kept = [i for i, step in enumerate(curve["steps"]) if step % CURVE == 0 or i + 1 == len(curve["steps"])]
                group["curve"] = {
                    key: None if column is None else [column[i] for i in kept] for key, column in curve.items()
                }
        return body | ({"text": _text(found)} if with_text else {})

    return _guarded(look)


def _monitor(made: Setup, by: str) -> dict[str, Any]:
    def look() -> dict[str, Any]:
        monitor = td.Monitor(made.optimizer, every_steps=EVERY, by=by, model=made.model if made.named else None,
                             plan=made.plan, sample=made.sample)  # fmt: skip
        try:
            with monitor:
                train(made)
        except Exception as error:
            return _history(monitor.history, with_text=by == "role") | {"stopped": _raised(error)}
        return _history(monitor.history, with_text=by == "role")

    return _guarded(look)


def train(made: Setup) -> None:
    """Take the steps."""
    for step in range(1, STEPS + 1):
        if made.before_step is not None:
            made.before_step(step)
        made.give_gradients(step)
        for optimizer in made.optimizers:
            optimizer.step()
        for scheduler in made.schedulers:
            scheduler.step(*([1.0] if type(scheduler).__name__ == "ReduceLROnPlateau" else []))


def _history(history: td.History, *, with_text: bool) -> dict[str, Any]:
    return {
        "series": [
            [one.name, one.role, one.decay, one.source, one.dtype, one.num_elements, list(one.names)]
            for one in history.series
        ],
        # By tensor the first step is there as well.
        "records": [_columns(one) for one in history.records if one.step % EVERY == 0 or not with_text],
        "alarms": [[one.step, one.kind, *one.groups, *([] if with_text else [one.what])] for one in history.events],
    } | ({"text": _text(history)} if with_text else {})


def _columns(record: Any) -> dict[str, Any]:
    """A record by quantity, in which a decay that is no more than rounding is called so."""
    columns = {name: [shortest(number) for number in record[name]] for name in record.columns}
    decays = columns.get("decay_norm", [math.nan] * len(record))
    for place, (decay, weight) in enumerate(zip(decays, columns["weight_norm"], strict=True)):
        if 0 < decay < NOISE * weight:
            for name in columns.keys() & {"decay_norm", "realized_shrink", "cosine"}:
                columns[name][place] = "noise"
    if all(one in ("noise", "nan") for one in map(str, columns.get("cosine", ()))):
        columns.pop("cosine", None)
    # A column of equal numbers is one number.
    short = {name: column[0] if len(set(map(str, column))) == 1 else column for name, column in columns.items()}
    return {"step": record.step, "first": record.first} | short


def _after(made: Setup) -> dict[str, Any]:
    """What is said once the steps are taken, in short."""
    inspected, forecast = _inspect(made), _forecast(made, with_text=False)
    kept = ("index", "decay", "prediction", "num_steps", "first_step", "fraction", "max_fraction", "total_shrink")
    return {
        "audit": _audit_alone(made),
        "inspect": [[one["names"], one["lr"], one["weight_decay"], one["wiring"], one["decays"], one["pull"]]
                    for one in inspected["groups"]] if "groups" in inspected else inspected,
        "forecast": [[*(one[key] for key in kept), *one["names"]] for one in forecast["groups"]]
                    if "groups" in forecast else forecast,
    }  # fmt: skip


if __name__ == "__main__":
    names = [one for one in sys.argv[1:] if one != "--write"]
    if "--write" not in sys.argv or not SETUPS.keys() >= set(names):
        sys.exit(__doc__)
    # As the tests have it: copies step at each record, whatever the time.
    budget.FREE = math.inf  # type: ignore[assignment]
    for name in names or SETUPS:
        write(name)
    if not names:
        for path in FOLDER.glob("*.json"):
            if path.stem not in SETUPS:
                path.unlink()
