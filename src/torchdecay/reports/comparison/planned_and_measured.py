"""What decay was to do and what it did, run by run: charts, a table of numbers, and sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchdecay.reports.drawing.chart import Chart, Key
from torchdecay.reports.drawing.palette import Style
from torchdecay.reports.drawing.plot import Band, Mark, Plot, Rule, dot, line, steps_axis, y_axis
from torchdecay.text import counted, listing, number, percent, prose, shown

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.training.planned_and_measured import GroupCourse
    from torchdecay.observe.monitor.series import Event

FORECAST = Style("ink", (5, 2.5), "")
MEASURED = Style("s1", (), "o")
NORM = Style("muted", (1.5, 2), "")
KEYS = (Key("forecast", FORECAST, 0), Key("measured", MEASURED, 1), Key("norm of the weights", NORM, 2))
MOST_CHARTS, MOST_REMARKS = 12, 16
HEAD = (
    "Decay", "Weights", "Taken per step", "Half-life, steps", "Time scale", "Gone: forecast", "Gone: measured",
    "Norm, first", "Norm, last",
)  # fmt: skip
_OFF, _VISIBLE = 0.1, 0.01


@dataclass(frozen=True)
class _Course:
    """The courses of one group of weights under one decay, one per seed, on the same steps."""

    label: str
    runs: tuple[GroupCourse, ...]

    @property
    def first(self) -> GroupCourse:
        return self.runs[0]

    @property
    def planned(self) -> list[float]:
        """Halvings, forecast; the same for all seeds."""
        return _halvings(self.first.planned or ())

    @property
    def measured(self) -> list[list[float]]:
        """Halvings as measured, per step those of all seeds."""
        known = [run.realized for run in self.runs if run.realized is not None]
        return [_halvings(values) for values in zip(*known, strict=True)]

    @property
    def norms(self) -> list[list[float]]:
        """How often the norm halved since the start, per step those of all seeds; below 0 where it grew."""
        every = [run.weight_norm for run in self.runs if len(run.weight_norm) == len(run.steps)]
        return [
            [math.log2(start[0] / now) if start[0] > 0 and 0 < now < math.inf else math.nan
             for start, now in zip(every, values, strict=True)]
            for values in zip(*every, strict=True)
        ]  # fmt: skip

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """The last halvings, forecast and measured; None where they are unknown."""
        planned, measured = self.planned, [_mean(values) for values in self.measured]
        return (planned[-1] if planned else None), (measured[-1] if measured else None)


def acting_charts(comparison: Comparison) -> tuple[Chart, ...]:
    """One chart for each decay and group of weights that anything is known of, at most `MOST_CHARTS`."""
    every = [one for one in _courses(comparison) if one.first.planned or one.measured]
    return tuple(_chart(comparison, place, one) for place, one in enumerate(every[:MOST_CHARTS]))


def acting_rows(comparison: Comparison) -> tuple[tuple[str, ...], ...]:
    """One line for each decay and group of weights, also of those that nothing is known of."""
    return tuple(_row(one) for one in _courses(comparison))


def acting_remarks(comparison: Comparison) -> tuple[str, ...]:
    """What the forecasts remark, what could not be known, and the alarms of the monitors."""
    said = dict.fromkeys((*_remarks(comparison), *_alarms(comparison)))
    more = [f"And {counted(len(said) - MOST_REMARKS, 'more remark')}, in the results."]
    return tuple([*said][:MOST_REMARKS] + (more if len(said) > MOST_REMARKS else []))


def _remarks(comparison: Comparison) -> Iterator[str]:
    for one in _courses(comparison):
        for remark in one.first.remarks:
            yield f"{one.label}, forecast: {prose(remark)}"
        if not one.measured:
            yield f"{one.label}, {prose(one.first.measured)}."
    for label in comparison.labels:
        for run in comparison.of(label):
            if run.planned_and_measured is not None and run.planned_and_measured.note:
                yield f"{shown(label)}: {prose(run.planned_and_measured.note)}"


def _alarms(comparison: Comparison) -> Iterator[str]:
    """Those of one kind together, over steps and seeds, in the words of the first."""
    for label in comparison.labels:
        alike: dict[tuple[str, str], list[tuple[int, Event]]] = {}
        for run in comparison.of(label):
            for alarm in run.planned_and_measured.alarms if run.planned_and_measured is not None else ():
                alike.setdefault((alarm.kind, alarm.group), []).append((run.seed, alarm))
        for (kind, _), events in alike.items():
            seeds = list(dict.fromkeys(str(seed) for seed, _ in events))
            first = events[0][1]
            where = f"{shown(label)}, seed{'s' if len(seeds) > 1 else ''} {listing(seeds, most=6)}"
            said = prose(f"{first.what} {first.why} {first.fix}")
            yield f"{where}, alarm from step {min(one.step for _, one in events):,} on: {shown(kind)}: {said}"


def _courses(comparison: Comparison) -> Iterator[_Course]:
    for label in comparison.labels:
        groups: dict[tuple[object, ...], list[GroupCourse]] = {}
        for run in comparison.of(label):
            for one in run.planned_and_measured.groups if run.planned_and_measured is not None else ():
                groups.setdefault((one.name, one.decay, one.steps), []).append(one)
        several = len({(name, decay) for name, decay, _ in groups}) > 1
        for same in groups.values():
            own = f"{label} · {same[0].name}" if several else label
            yield _Course(shown(own, most=60), tuple(same))


def _chart(comparison: Comparison, place: int, course: _Course) -> Chart:
    steps, planned, measured, norms = course.first.steps, course.planned, course.measured, course.norms
    middle, low, high = ([pick(values) for values in measured] for pick in (_mean, _least, _most))
    way = [_mean(values) for values in norms]

    marks: list[Mark] = [Rule("y", 0.0, Style("axis", (), ""), z=1)]
    if way:
        marks.append(line(steps, way, NORM, width=1.8, gid="acting-norm"))
    if middle:
        marks.append(Band((0, *steps), (0.0, *low), (0.0, *high), MEASURED.color, "acting-band"))
        marks.append(line((0, *steps), (0.0, *middle), MEASURED, width=5, gid="acting-measured"))
    if planned:
        marks.append(line((0, *steps), (0.0, *planned), FORECAST, width=1.5, gid="acting-planned"))
    if middle and math.isfinite(middle[-1]):
        marks.append(dot(steps[-1], middle[-1], MEASURED, gid="acting-end"))
    height = y_axis([0.0, *planned, *low, *high, *way])
    title = f"Times halved: {course.label}"
    said = _said(course)
    return Chart(
        name=f"planned-{place}",
        title=title,
        alt=f"{title}, over {steps[-1]:,} {comparison.step_name}s. {said}",
        caption=said,
        plot=Plot(steps_axis(steps[-1]), height, comparison.step_name, tuple(marks)),
        keys=KEYS,
        head=(comparison.step_name, "forecast", "measured", "norm"),
        rows=tuple(
            (f"{steps[i]:,}", *(number(values[i]) if values else "unknown" for values in (planned, middle, way)))
            for i in sorted({round(j * (len(steps) - 1) / 10) for j in range(11)})
        ),
    )


def _said(course: _Course) -> str:
    """The finding in a few sentences."""
    planned, measured = course.ends
    said = []
    if planned is None:
        said.append(f"The forecast is unknown: {prose(course.first.why)}.")
    if measured is None:
        said.append(f"{_upper(prose(course.first.measured))}.")
    at_most = "at most " if course.first.prediction == "at most" else ""
    if planned is not None and measured is not None:
        said.append(_compared(planned, measured, at_most=at_most))
    elif planned is not None:
        said.append(f"Forecast: decay by itself takes {at_most}{_taken(planned)} of each weight.")
    elif measured is not None:
        said.append(f"Measured: decay by itself would have taken {_taken(measured)} of the weights.")
    norms = [run.weight_norm for run in course.runs if run.weight_norm]
    if norms:
        first, last = (number(_mean([one[end] for one in norms])) for end in (0, -1))
        said.append(f"With the updates their norm went from {first} to {last}.")
    return " ".join(said)


def _compared(planned: float, measured: float, *, at_most: str) -> str:
    if not (math.isfinite(planned) and math.isfinite(measured)):
        return "Some step takes all that there is, so nothing can be counted from there on."
    close = abs(measured - planned) <= max(_OFF * abs(planned), _VISIBLE)
    if at_most and (close or measured <= planned):
        took = f"Decay by itself would have taken {_taken(measured)} of the weights"
        return f"{took}; the forecast was {at_most}{_taken(planned)}."
    if close:
        return f"As forecast, decay by itself would have taken {_taken(measured)} of each weight."
    return (
        f"Not as forecast: decay by itself was to take {at_most}{_taken(planned)} of each weight, and would have taken "
        + (f"{_taken(measured)}.")
    )


def _row(course: _Course) -> tuple[str, ...]:
    first = course.first
    bound = first.prediction == "at most"
    most, least = ("≤ ", "≥ ") if bound else ("", "")
    epochs = "" if first.timescale_epochs is None else f" ({number(first.timescale_epochs)} epochs)"
    shrunk = [run.realized_shrink for run in course.runs if run.realized_shrink is not None]
    norms = [run.weight_norm for run in course.runs if run.weight_norm]
    return (
        course.label,
        f"{first.num_elements:,} ({shown(first.name, most=60)})",
        _known(first.fraction, number, most),
        _known(first.half_life, number, least),
        _known(first.timescale, lambda value: f"{number(value)} steps{epochs}", least),
        _known(first.planned_shrink, percent, most),
        _known(_mean(shrunk) if shrunk else None, percent),
        number(_mean([one[0] for one in norms])) if norms else "unknown",
        number(_mean([one[-1] for one in norms])) if norms else "unknown",
    )


def _known(value: float | None, spell: Callable[[float], str], sign: str = "") -> str:
    return "unknown" if value is None else sign + spell(value)


def _halvings(logs: Sequence[float]) -> list[float]:
    # What is infinite breaks the line: nothing is left that could be halved.
    return [log / math.log(2) if math.isfinite(log) else math.nan for log in logs]


def _taken(halvings: float) -> str:
    return percent(1 - 2**-halvings) if math.isfinite(halvings) else "all"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _least(values: Sequence[float]) -> float:
    return min(values) if all(map(math.isfinite, values)) else math.nan


def _most(values: Sequence[float]) -> float:
    return max(values) if all(map(math.isfinite, values)) else math.nan


def _mean(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return mean if math.isfinite(mean) else math.nan
