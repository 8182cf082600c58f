"""How the runs of a sweep went: training beside test, curves over the steps, and where halving stopped some."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torchdecay.reports.comparison.curves import curve_chart
from torchdecay.reports.drawing.axes import Axis, evenly, spans_decades, y_axis
from torchdecay.reports.drawing.chart import Chart, Key, Plot
from torchdecay.reports.drawing.marks import Band, Line, Mark, Rule, Text, dot
from torchdecay.reports.drawing.palette import SMALL, TEXT, Style, ramp
from torchdecay.reports.sweep.points import Points, log_range, log_ticks
from torchdecay.text import capital, counted, number, shown

if TYPE_CHECKING:
    from torchdecay.lab.sweeps.points import Point

BARE = Style("s0", (), "o")
_TRAIN, _TEST = Style("s1", (7, 2.5), "s"), Style("s2", (), "o")
_ROW, _MOST_ROWS, _MOST_DOTS, _MOST_CURVES = 15.0, 60, 20, 7


def along_path(points: Points) -> list[tuple[Point, Style]]:
    """The points whose curves are drawn, with their looks: none, then weak to strong, the chosen one among them.

    Of several learning rates it is the chosen one's; of groups, and of more points than lines can be told apart, some
    are left out evenly.
    """
    sweep, scale = points.sweep, _scale(points)
    own = None if sweep.best is None else sweep.best.point
    here = [point for point in sweep.points if point.lr_scale == scale and sweep.of(point.label)]
    bare = [point for point in here if point.is_bare]
    pulled = _evenly([point for point in here if not point.is_bare], _MOST_CURVES, own)
    look = [Style(style.color, (), style.marker) for style in ramp(len(pulled))]
    return [*((point, BARE) for point in bare), *zip(pulled, look, strict=True)]


def _scale(points: Points) -> float:
    """The learning rate that is drawn: the chosen one's."""
    return points.scales[0] if points.sweep.best is None else points.sweep.best.point.lr_scale


def path_curves(points: Points, drawn: Sequence[tuple[Point, Style]], curves: Sequence[str]) -> list[Chart]:
    """Curves over the steps, colored from weak to strong."""
    if not drawn:
        return []
    comparison = points.renamed([point for point, _ in drawn])
    look = [style for _, style in drawn]
    found = (curve_chart(comparison, curve, look=look) for curve in curves)
    return [chart for chart in found if chart is not None]


def path_keys(points: Points, drawn: Sequence[tuple[Point, Style]]) -> tuple[Key, ...]:
    """The legend of `path_curves`."""
    return tuple(Key(points.name(point), style, index) for index, (point, style) in enumerate(drawn))


def gap_path(points: Points, what: str) -> Chart | None:
    """Final training and test "loss" or "score" against the coefficient, the gap between them shaded; None with groups.

    Of several learning rates the chosen one's are drawn.
    """
    sweep, scale = points.sweep, _scale(points)
    train, test = (
        {spot.point.label: spot for spot in points.spots[f"{part}_{what}"] if spot.point.lr_scale == scale}
        for part in ("train", "test")
    )
    told = [(train[label], test[label]) for label in train if train[label].values and test[label].values]
    pulled = [pair for pair in told if pair[0].point.value is not None]
    bare = next((pair for pair in told if pair[0].point.is_bare), None)
    if sweep.groups or not pulled:
        return None
    values = [pair[0].point.value or 0.0 for pair in pulled]
    start, end = log_range(values, room=0.1)
    none_at = start - 0.1 * (end - start) if bare is not None else None
    numbers = [value for pair in told for spot in pair for value in spot.values]
    log = what == "loss" and spans_decades(numbers)
    name = shown(sweep.score_name, most=40) if what == "score" else "loss"

    left = start if none_at is None else none_at - 0.05 * (end - start)
    xs = tuple(math.log10(value) for value in values)
    trained, tested = (tuple(pair[part].mean for pair in pulled) for part in (0, 1))
    marks: list[Mark] = [Band(xs, trained, tested, "s2", "scan-gap", alpha=0.14)]
    for part, style, means in ((0, _TRAIN, trained), (1, _TEST, tested)):
        marks.append(Line(xs, means, style, 2.0, "scan-line"))
        ends = [*zip(xs, (pair[part] for pair in pulled), strict=True)] if len(pulled) <= _MOST_DOTS else []
        ends += [(none_at, bare[part])] if bare is not None and none_at is not None else []
        marks += [dot(x, spot.mean, style, gid="scan-end", size=6) for x, spot in ends]
    plot = Plot(
        Axis(left, end, ticks=log_ticks(values, none_at=none_at)),
        y_axis(numbers, floor=0.0, log=log),
        "coefficient",
        tuple(marks),
    )

    gaps = [(b.mean - a.mean, a.point) for a, b in told]
    narrowest, widest = (
        f"{points.name(point)} ({number(gap, signed=True)})"
        for gap, point in (pick(gaps, key=lambda gap: abs(gap[0])) for pick in (min, max))
    )
    at = f" at {points.lr_name(scale)}" if len(points.scales) > 1 else ""
    return Chart(
        name=f"gap-{what}-by-coefficient",
        title=f"{capital(name)}: training beside test",
        alt=f"Final training and test {name} against the coefficient{at}. "
        + " ".join(
            f"{capital(points.name(a.point))}: training {number(a.mean)}, test {number(b.mean)}."
            for a, b in told[:30]
        ),
        caption=f"Mean over seeds{at}. The gap, test less training, is widest for {widest}"
        + (f", narrowest for {narrowest}." if len(gaps) > 1 else "."),
        plot=plot,
        keys=(Key("training", _TRAIN, -1), Key("test", _TEST, -1)),
        head=("coefficient", "training", "test", "gap"),
        rows=tuple(
            (points.name(a.point), number(a.mean), number(b.mean), number(b.mean - a.mean, signed=True))
            for a, b in points.some(told, lambda pair: pair[0].point)
        ),
    )  # fmt: skip


def halving_chart(points: Points) -> Chart | None:
    """How many steps each point got; None where nothing was stopped."""
    sweep = points.sweep
    steps = {label: max(run.steps[-1] for run in runs) for label, runs in points.runs.items() if runs}
    if not any(count < sweep.num_steps for count in steps.values()):
        return None
    known = [point for point in sweep.points if point.label in steps]
    rows = known[:_MOST_ROWS]
    names = [points.name(point) for point in rows]
    chosen = sweep.best
    stops = sorted({count for count in steps.values() if count < sweep.num_steps})

    marks: list[Mark] = [Rule("x", stop, Style("axis", (2, 3), ""), z=1) for stop in stops]
    for y, point in enumerate(rows):
        count = steps[point.label]
        whole = count >= sweep.num_steps
        style = Style("s0" if point.is_bare else "s1" if whole else "axis", (), "")
        told = "chosen" if chosen is not None and chosen.point == point else "" if whole else f"{count:,}"
        marks.append(Line((0, count), (y, y), style, 6, cap="butt", z=2))
        marks.append(Text(count, y, f" {told}", size=SMALL, bold=told == "chosen", va="center", halo=True))
    short = [shown(name, most=14) for name in names]
    plot = Plot(
        Axis(0, 1.12 * sweep.num_steps),
        Axis(len(rows) - 0.4, -0.6, ticks=tuple(enumerate(short)), size=SMALL),
        sweep.step_name,
        tuple(marks),
    )
    ended = sum(count >= sweep.num_steps for count in steps.values())
    left = f" The first {len(rows)} are drawn." if len(rows) < len(known) else ""
    went = "; ".join(
        f"{sum(count == stop for count in steps.values())} of {sum(count >= stop for count in steps.values())} "
        f"at {sweep.step_name} {stop:,}"
        for stop in stops
    )
    longest = max(map(len, short))
    return Chart(
        name="halving",
        title="Where runs were stopped",
        alt=f"Steps that each value got before successive halving stopped it, of {sweep.num_steps:,}: "
        + "; ".join(f"{name} {steps[point.label]:,}" for name, point in zip(names, rows, strict=True))
        + ".",
        caption=f"Stopped: {went}. The run without decay always goes on. "
        f"{ended} of {counted(len(known), 'point')} ran to the end.{left}",
        plot=plot,
        height=70 + _ROW * len(rows),
        left=min(150.0, max(46.0, 18 + 0.62 * TEXT * longest)),
        head=("value", "steps"),
        rows=tuple((points.name(point), f"{steps[point.label]:,}") for point in points.some(known, lambda one: one)),
    )


def _evenly(points: Sequence[Point], most: int, kept: Point | None) -> list[Point]:
    places = set(evenly(len(points), most))
    if kept in points and (own := points.index(kept)) not in places:
        # The nearest inner one makes room, so that the ends stay.
        inner = places - {0, len(points) - 1}
        places = places - {min(inner, key=lambda place: abs(place - own))} | {own}
    return [points[i] for i in sorted(places)]
