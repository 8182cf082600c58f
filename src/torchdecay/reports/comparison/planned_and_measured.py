"""What decay was to do and what it did, run by run: charts, a table of numbers, and sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchdecay.reports.comparison.series import mean_of, over_seeds
from torchdecay.reports.drawing.axes import evenly, percent_left, spans_decades, steps_axis, y_axis
from torchdecay.reports.drawing.chart import Chart, Key, Plot
from torchdecay.reports.drawing.marks import Band, Line, Mark, Rule, dot
from torchdecay.reports.drawing.palette import Style
from torchdecay.text import capital, counted, listing, number, percent, prose, shown

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
_OFF, _VISIBLE = 0.1, 0.01 * math.log(2)


@dataclass(frozen=True)
class _Course:
    """The courses of one group of weights under one decay, one per seed, on the same steps."""

    label: str
    runs: tuple[GroupCourse, ...]

    @property
    def planned(self) -> Sequence[float]:
        """Log-shrinks, forecast; the same for all seeds."""
        return self.runs[0].planned or ()

    @property
    def measured(self) -> list[tuple[float, ...]]:
        """Log-shrinks as measured, per step those of all seeds."""
        return [*zip(*(run.realized for run in self.runs if run.realized is not None), strict=True)]

    @property
    def norms(self) -> list[list[float]]:
        """The norm in percent of that at the start, per step those of all seeds."""
        every = [run.weight_norm for run in self.runs if len(run.weight_norm) == len(run.steps)]
        return [
            [100 * now / start[0] if start[0] > 0 else math.nan for start, now in zip(every, values, strict=True)]
            for values in zip(*every, strict=True)
        ]

    @property
    def first_and_last_norm(self) -> tuple[str, ...]:
        """The means over seeds, or nothing where they are unknown."""
        norms = [run.weight_norm for run in self.runs if run.weight_norm]
        return tuple(number(mean_of([one[end] for one in norms])) for end in (0, -1) if norms)


def acting_charts(comparison: Comparison) -> tuple[Chart, ...]:
    """One chart for each decay and group of weights that anything is known of, at most `MOST_CHARTS`."""
    every = [one for one in _courses(comparison) if one.runs[0].planned or one.measured]
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
        for remark in one.runs[0].remarks:
            yield f"{one.label}, forecast: {prose(remark)}"
        if not one.measured:
            yield f"{one.label}, {prose(one.runs[0].measured)}."
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
    steps, planned = course.runs[0].steps, [*map(percent_left, course.planned)]
    middle, low, high = over_seeds([[*map(percent_left, values)] for values in course.measured])
    way = [mean_of(values) for values in course.norms]
    start, whole = (0, *steps), (100.0,)

    marks: list[Mark] = [Rule("y", 100.0, Style("axis", (), ""), z=1)]
    if way:
        marks.append(Line(steps, way, NORM, 1.8, "acting-norm"))
    if middle:
        marks.append(Band(start, whole + low, whole + high, MEASURED.color, "acting-band"))
        marks.append(Line(start, whole + middle, MEASURED, 5, "acting-measured"))
    if planned:
        marks.append(Line(start, (100.0, *planned), FORECAST, 1.5, "acting-planned"))
    if middle and math.isfinite(middle[-1]):
        marks.append(dot(steps[-1], middle[-1], MEASURED, gid="acting-end"))
    values = [100.0, *planned, *low, *high, *way]
    height = y_axis(values, log=spans_decades(values))
    title = f"Left of each weight, %: {course.label}"
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
            for i in evenly(len(steps), 11)
        ),
    )


def _said(course: _Course) -> str:
    """The finding in a few sentences."""
    planned = course.planned[-1] if course.planned else None
    measured = mean_of(course.measured[-1]) if course.measured else None
    said = []
    if planned is None:
        said.append(f"The forecast is unknown: {prose(course.runs[0].why)}.")
    if measured is None:
        said.append(f"{capital(prose(course.runs[0].measured))}.")
    at_most = "at most " if course.runs[0].prediction == "at most" else ""
    if planned is not None and measured is not None:
        said.append(_compared(planned, measured, at_most=at_most))
    elif planned is not None:
        said.append(f"Forecast: decay by itself takes {at_most}{_taken(planned)} of each weight.")
    elif measured is not None:
        said.append(f"Measured: decay by itself would have taken {_taken(measured)} of the weights.")
    if norms := course.first_and_last_norm:
        said.append(f"With the updates their norm went from {norms[0]} to {norms[1]}.")
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
    took = f"decay by itself would have taken {_taken(measured)} of each weight"
    return f"Not as forecast: {took}; the forecast was {at_most}{_taken(planned)}."


def _row(course: _Course) -> tuple[str, ...]:
    first = course.runs[0]
    bound = first.prediction == "at most"
    most, least = ("≤ ", "≥ ") if bound else ("", "")
    epochs = "" if first.timescale_epochs is None else f" ({number(first.timescale_epochs)} epochs)"
    shrunk = [run.realized_shrink for run in course.runs if run.realized_shrink is not None]
    return (
        course.label,
        f"{first.num_elements:,} ({shown(first.name, most=60)})",
        _known(first.fraction, number, most),
        _known(first.half_life, number, least),
        _known(first.timescale, lambda value: f"{number(value)} steps{epochs}", least),
        _known(first.planned_shrink, percent, most),
        _known(mean_of(shrunk) if shrunk else None, percent),
        *(course.first_and_last_norm or ("unknown", "unknown")),
    )


def _known(value: float | None, spell: Callable[[float], str], sign: str = "") -> str:
    return "unknown" if value is None else sign + spell(value)


def _taken(log_shrink: float) -> str:
    return percent(1 - percent_left(log_shrink) / 100) if math.isfinite(log_shrink) else "all"
