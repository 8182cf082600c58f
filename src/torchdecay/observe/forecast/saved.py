"""A forecast as JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torchdecay.errors import LoadError
from torchdecay.observe.forecast.equilibrium import Equilibrium
from torchdecay.observe.forecast.remarks import Remark
from torchdecay.observe.forecast.result import Curve, Forecast, GroupForecast
from torchdecay.observe.printing import finite

FORMAT, VERSION = "torchdecay.forecast", 1
_AGAIN = "Write it again: td.forecast(...).to_json()."
_SIMPLE = {"optimizer": str, "optimizer_index": int, "index": int, "decay": str, "prediction": str, "why": str,
           "num_steps": int, "first_step": int}  # fmt: skip
_MAYBE_WHOLE = ("steps_per_epoch", "equilibrium_step")
_MAYBE = ("max_lr", "fraction", "max_fraction", "half_life", "timescale", "total_shrink")


def write(forecast: Forecast) -> str:
    """The JSON of a forecast; NaN and infinities as text."""
    body = {"format": FORMAT, "version": VERSION} | _plain(forecast)
    return json.dumps(finite(body), indent=1, ensure_ascii=False)


def read(text: str) -> Forecast:
    """The forecast that `write` wrote.

    Raises:
        LoadError: not a forecast, another version, or incomplete.
    """
    try:
        data = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise LoadError(f"not a forecast: {error}.", fix=_AGAIN) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise LoadError(f"not a forecast: it does not say format {FORMAT}.", fix=_AGAIN)
    if data.get("version") != VERSION:
        raise LoadError(
            f"the forecast is of version {data.get('version')!r}; this torchdecay reads version {VERSION}.", fix=_AGAIN
        )
    try:
        return Forecast(
            groups=tuple(_group(one) for one in data["groups"]),
            num_steps=int(data["num_steps"]),
            steps_per_epoch=_maybe(data["steps_per_epoch"], int),
            schedule=str(data["schedule"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LoadError(f"the forecast is incomplete or damaged: {error!r}.", fix=_AGAIN) from error


def _plain(value: Any) -> Any:
    """Dataclasses as dicts, without what is private."""
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if not f.name.startswith("_")}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _group(data: Mapping[str, Any]) -> GroupForecast:
    body: dict[str, Any] = {name: kind(data[name]) for name, kind in _SIMPLE.items()}
    body |= {name: _maybe(data[name], int) for name in _MAYBE_WHOLE}
    body |= {name: _maybe(data[name], float) for name in _MAYBE}
    if body["prediction"] not in ("exact", "at most", "unknown"):
        raise ValueError(f"prediction {body['prediction']!r}")
    return GroupForecast(
        **body,
        names=tuple(map(str, data["names"])),
        sizes=tuple(map(int, data["sizes"])),
        dtypes=tuple(map(str, data["dtypes"])),
        equilibrium=_maybe(data["equilibrium"], _equilibrium),
        curve=_maybe(data["curve"], _curve),
        remarks=tuple(Remark(str(one["kind"]), str(one["text"])) for one in data["remarks"]),
    )


def _curve(data: Mapping[str, Any]) -> Curve:
    lr = data["lr"]
    made = Curve(
        steps=tuple(map(int, data["steps"])),
        log_retention=tuple(map(float, data["log_retention"])),
        lr=None if lr is None else tuple(map(float, lr)),
    )
    if len(made.steps) != len(made.log_retention) or (made.lr is not None and len(made.lr) != len(made.steps)):
        raise ValueError("a curve whose steps and numbers differ in count")
    return made


def _equilibrium(data: Mapping[str, Any]) -> Equilibrium:
    rule: Any = str(data["rule"])
    return Equilibrium(
        rule=rule,
        lr=float(data["lr"]),
        fraction=float(data["fraction"]),
        rotation=float(data["rotation"]),
        rms=_maybe(data["rms"], float),
        gain=_maybe(data["gain"], float),
        num_steps=float(data["num_steps"]),
    )


def _maybe(value: Any, make: Any) -> Any:
    return None if value is None else make(value)
