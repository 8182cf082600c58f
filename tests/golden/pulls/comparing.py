"""Where two recordings of a setup differ, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from golden.pulls.recording import NOISE

DIGITS = 2e-8
"""Of what is reckoned in Python's floats: nine digits are kept, and the last may be rounded up here and down there."""
SINGLE = 1e-6
"""Of a monitor's columns, which are float32: eight of its units in the last place, for sums in another order."""
ROUNDED = 1e-7
"""Beside that, of what is measured as a difference of float32 weights, whose roundings are 6e-8 of a weight. On another
kind of vector unit 6e-8 is what was seen. In half precision it is a quarter of that dtype's eps instead."""
PRINTED = 0.011
"""Of numbers in a monitor's text, which have three digits mostly: 1.01 may become 1."""
IN_WEIGHTS = {"weight_norm", "gradient_norm", "decay_norm", "update_norm"}
"""Columns in units of the weights."""
MEASURED = {*IN_WEIGHTS, "realized_shrink", "rotation", "cosine", "dual"}
"""Columns that are read off weights; what is planned is not."""
_NORMS = ("weight_norm", "decay_norm")
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def differences(pinned: Any, now: Any) -> list[str]:
    """One line for each difference; findings may have changed the first letter of their code."""
    return list(_walk("", pinned, now))


def _walk(path: str, pinned: Any, now: Any) -> Iterator[str]:
    if isinstance(pinned, Mapping) and isinstance(now, Mapping):
        for key in sorted(pinned.keys() | now.keys()):
            where = f"{path} / {key}" if path else key
            if key not in now or key not in pinned:
                yield f"{where}: {'gone' if key in pinned else 'new'}, {_short(pinned.get(key, now.get(key)))}"
            elif key == "records":
                yield from _records(where, pinned[key], now[key], pinned["series"])
            elif key in ("text", "says") or (key == "alarms" and pinned[key] != now[key]):
                yield from _text(where, pinned[key], now[key], by_monitor="series" in pinned)
            else:
                yield from _walk(where, pinned[key], now[key])
    elif isinstance(pinned, list) and isinstance(now, list) and len(pinned) == len(now):
        for place, (one, other) in enumerate(zip(pinned, now, strict=True)):
            yield from _walk(f"{path}[{place}]", one, other)
    elif isinstance(pinned, str) and isinstance(now, str):
        if pinned != now:
            yield f"{path}: was {pinned!r}, is {now!r}"
    elif isinstance(pinned, float) and isinstance(now, float):
        if abs(pinned - now) > DIGITS * max(abs(pinned), abs(now)):
            yield f"{path}: was {pinned!r}, is {now!r}"
    elif type(pinned) is not type(now) or pinned != now:
        yield f"{path}: was {_short(pinned)}, is {_short(now)}"


# ── a monitor's records ──


def _records(path: str, pinned: list[Any], now: list[Any], series: list[Any]) -> Iterator[str]:
    heads = [[(one["step"], one["first"]) for one in records] for records in (pinned, now)]
    if heads[0] != heads[1]:
        yield f"{path}: (step, first) was {heads[0]}, is {heads[1]}"
        return
    for one, other in zip(pinned, now, strict=True):
        norms = one["weight_norm"]
        count = len(norms) if isinstance(norms, list) else _count(one, other)
        for name in sorted((one.keys() | other.keys()) - {"step", "first"}):
            where = f"{path} / step {one['step']} / {name}"
            if name not in one or name not in other:
                yield f"{where}: {'gone' if name in one else 'new'}, {_short(one.get(name, other.get(name)))}"
                continue
            columns = [_column(record, name, count) for record in (one, other)]
            if len(columns[0]) != len(columns[1]):
                yield f"{where}: was {_short(one[name])}, is {_short(other[name])}"
                continue
            for place, (was, is_) in enumerate(zip(*columns, strict=True)):
                about = series[one["first"] + place]
                if not _agree(name, was, is_, {key: _column(one, key, count)[place] for key in one}, about[4]):
                    yield f"{where} of {about[0]}: was {was!r}, is {is_!r}"


def _count(*records: Mapping[str, Any]) -> int:
    """How many series there are in records, whose columns of equal numbers are one number."""
    return max((len(column) for record in records for column in record.values() if isinstance(column, list)), default=1)


def _column(record: Mapping[str, Any], name: str, count: int) -> list[Any]:
    column = record[name]
    return column if isinstance(column, list) else [column] * count


def _agree(name: str, was: Any, is_: Any, row: Mapping[str, Any], dtypes: str) -> bool:
    """Whether two numbers of one column are the same; `row` is what else was pinned of that series."""
    if not (isinstance(was, float) and isinstance(is_, float)):
        return bool(was == is_)
    allowed = SINGLE * max(abs(was), abs(is_))
    if name in MEASURED:
        half = [torch.finfo(getattr(torch, one)).eps / 4 for one in dtypes.split(", ") if "16" in one]
        weight, decay = (found if isinstance(found := row.get(key), float) else 0.0 for key in _NORMS)
        # An angle of something small is known the less.
        size = weight if name in IN_WEIGHTS else weight / max(decay, NOISE) if name == "cosine" else 1.0
        allowed += max([ROUNDED, *half]) * size
    return abs(was - is_) <= allowed


# ── text ──


def _text(path: str, pinned: list[Any], now: list[Any], *, by_monitor: bool) -> Iterator[str]:
    """Lines of text are the same, but for the last digits of a monitor's numbers, and the layout where those differ."""
    olds, news = _as_lines(pinned), _as_lines(now)
    if olds == news:
        return
    if by_monitor and len(olds) == len(news) and all(map(_prints_alike, olds, news)):
        return
    for place in range(max(len(olds), len(news))):
        old, new = (lines[place] if place < len(lines) else "(nothing)" for lines in (olds, news))
        if old != new:
            yield f"{path}, line {place + 1}:\n    was {old}\n    is  {new}"


def _as_lines(text: list[Any]) -> list[str]:
    return [line if isinstance(line, str) else " | ".join(map(str, line)) for line in text]


def _prints_alike(old: str, new: str) -> bool:
    if " ".join(_NUMBER.sub("0", old).split()) != " ".join(_NUMBER.sub("0", new).split()):
        return False
    return all(map(_same_number, _NUMBER.findall(old), _NUMBER.findall(new)))


def _same_number(old: str, new: str) -> bool:
    if old == new:
        return True
    if old.lstrip("-").isdigit() and new.lstrip("-").isdigit():
        return False
    was, is_ = (float(one.replace(",", "")) for one in (old, new))
    # Of numbers with two digits the last one may turn.
    digits = [len(re.sub(r"e.*|[-.,]|^0\.0*", "", one).lstrip("0")) for one in (old, new)]
    part = 0.11 if digits == [2, 2] else PRINTED
    return abs(was - is_) <= part * max(abs(was), abs(is_)) or max(abs(was), abs(is_)) < NOISE


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
