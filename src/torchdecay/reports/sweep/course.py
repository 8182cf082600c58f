"""How the runs of a sweep went: training beside test, curves over the steps, and where halving stopped some."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torchdecay.reports.comparison.curves import curve_chart
from torchdecay.reports.drawing.chart import (
    SMALL,
    TEXT,
    Chart,
    Colors,
    Key,
    dot,
    frame,
    limits,
    line,
    plain_text,
    spans_decades,
)
from torchdecay.reports.drawing.palette import RAMP_LIGHT, Style, ramp
from torchdecay.reports.sweep.points import (
    capital,
    log_range,
    log_ticks,
    lr_name,
    lr_scales,
    name_of,
    renamed,
    spots_of,
)
from torchdecay.text import counted, number, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from torchdecay.lab.sweeps.points import Point
    from torchdecay.lab.sweeps.result import Sweep

BARE = Style("s0", (), "o")
_TRAIN, _TEST = Style("s1", (7, 2.5), "s"), Style("s2", (), "o")
_ROW, _MOST_ROWS, _MOST_DOTS = 15.0, 60, 20


def along_path(sweep: Sweep) -> list[tuple[Point, Style]]:
    """The points whose curves are drawn, with their looks: none, then weak to strong, the chosen one among them.

    Of several learning rates it is the chosen one's; of groups, and of more points than the ramp has colors, some
    are left out evenly.
    """
    chosen = sweep.best
    own = chosen.point if chosen is not None else None
    scale = own.lr_scale if own is not None else lr_scales(sweep)[0]
    here = [point for point in sweep.points if point.lr_scale == scale and sweep.of(point.label)]
    bare = [point for point in here if point.is_bare]
    pulled = _evenly([point for point in here if not point.is_bare], len(RAMP_LIGHT), own)
    look = [Style(style.color, (), style.marker) for style in ramp(len(pulled))]
    return [*((point, BARE) for point in bare), *zip(pulled, look, strict=True)]


def path_curves(sweep: Sweep, drawn: Sequence[tuple[Point, Style]], curves: Sequence[str]) -> list[Chart]:
    """Curves over the steps, colored from weak to strong."""
    if not drawn:
        return []
    comparison = renamed(sweep, [point for point, _ in drawn])
    look = [style for _, style in drawn]
    found = (curve_chart(comparison, curve, look=look) for curve in curves)
    return [chart for chart in found if chart is not None]


def path_keys(sweep: Sweep, drawn: Sequence[tuple[Point, Style]]) -> tuple[Key, ...]:
    """The legend of `path_curves`."""
    return tuple(Key(name_of(sweep, point), style, index) for index, (point, style) in enumerate(drawn))


def gap_path(sweep: Sweep, what: str) -> Chart | None:
    """Final training and test values against the coefficient, the gap between them shaded; None with groups.

    Args:
        sweep: the results; of several learning rates the chosen one's are drawn.
        what: "loss" or "score".
    """
    chosen = sweep.best
    scale = chosen.point.lr_scale if chosen is not None else lr_scales(sweep)[0]
    train, test = (
        {spot.point.label: spot for spot in spots_of(sweep, f"{part}_{what}") if spot.point.lr_scale == scale}
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

    def draw(axes: Axes, colors: Colors) -> None:
        frame(axes, colors, x_label="coefficient", log=log)
        axes.set_xlim(start if none_at is None else none_at - 0.05 * (end - start), end)
        log_ticks(axes, values, none_at=none_at)
        if log:
            axes.set_ylim(0.8 * min(numbers), 1.25 * max(numbers))
        else:
            axes.set_ylim(*limits(numbers, floor=0.0))
        xs = [math.log10(value) for value in values]
        axes.fill_between(xs, [a.mean for a, _ in pulled], [b.mean for _, b in pulled], color=colors["s2"],
                          alpha=0.14, linewidth=0, gid="scan-gap")  # fmt: skip
        for part, style in enumerate((_TRAIN, _TEST)):
            line(axes, xs, [pair[part].mean for pair in pulled], style, colors, width=2.0, gid="scan-line")
            spots = [*zip(xs, (pair[part] for pair in pulled), strict=True)]
            for x, spot in [*spots, *([(none_at, bare[part])] if bare is not None and none_at is not None else [])]:
                if len(pulled) <= _MOST_DOTS or spot.point.is_bare:
                    dot(axes, x, spot.mean, style, colors, gid="scan-end", size=6)

    gaps = [(b.mean - a.mean, a.point) for a, b in told]
    narrowest, widest = (
        f"{name_of(sweep, point)} ({number(gap, signed=True)})"
        for gap, point in (pick(gaps, key=lambda gap: abs(gap[0])) for pick in (min, max))
    )
    at = f" at {lr_name(sweep, scale)}" if len(lr_scales(sweep)) > 1 else ""
    return Chart(
        name=f"gap-{what}-by-coefficient",
        title=f"{capital(name)}: training beside test",
        alt=f"Final training and test {name} against the coefficient{at}. "
        + " ".join(
            f"{capital(name_of(sweep, a.point))}: training {number(a.mean)}, test {number(b.mean)}."
            for a, b in told[:30]
        ),
        caption=f"Mean over seeds{at}. Test less training is widest for {widest}"
        + (f", narrowest for {narrowest}." if len(gaps) > 1 else "."),
        draw=draw,
        keys=(Key("training", _TRAIN, -1), Key("test", _TEST, -1)),
        head=("coefficient", "training", "test", "test − training"),
        rows=tuple(
            (name_of(sweep, a.point), number(a.mean), number(b.mean), number(b.mean - a.mean, signed=True))
            for a, b in told
        ),
    )  # fmt: skip


def halving_chart(sweep: Sweep) -> Chart | None:
    """How many steps each point got; None where nothing was stopped."""
    steps: dict[str, int] = {}
    for point in sweep.points:
        runs = sweep.of(point.label, whole=False)
        if runs:
            steps[point.label] = max(run.steps[-1] for run in runs)
    if not any(count < sweep.num_steps for count in steps.values()):
        return None
    points = [point for point in sweep.points if point.label in steps]
    rows = points[:_MOST_ROWS]
    names = [name_of(sweep, point) for point in rows]
    chosen = sweep.best
    stops = sorted({count for count in steps.values() if count < sweep.num_steps})

    def draw(axes: Axes, colors: Colors) -> None:
        frame(axes, colors, x_label=sweep.step_name)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 1.12 * sweep.num_steps)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks(range(len(rows)), [shown(name, most=14) for name in names])
        for stop in stops:
            axes.axvline(stop, color=colors["axis"], linewidth=1, linestyle=(0, (2, 3)), zorder=1)
        for y, point in enumerate(rows):
            count = steps[point.label]
            whole = count >= sweep.num_steps
            color = colors["s0" if point.is_bare else "s1" if whole else "axis"]
            axes.plot([0, count], [y, y], color=color, linewidth=6, solid_capstyle="butt", zorder=2)
            told = "chosen" if chosen is not None and chosen.point == point else "" if whole else f"{count:,}"
            plain_text(axes, count, y, f" {told}", colors["ink"], fontsize=SMALL, va="center", gid="halo",
                       fontweight="bold" if told == "chosen" else "normal")  # fmt: skip
        axes.tick_params(axis="y", labelsize=SMALL)

    stopped = [name_of(sweep, point) for point in points if steps[point.label] < sweep.num_steps]
    left = f" The first {len(rows)} are drawn." if len(rows) < len(points) else ""
    went = "; ".join(
        f"{sum(count == stop for count in steps.values())} of {sum(count >= stop for count in steps.values())} "
        f"at {sweep.step_name} {stop:,}"
        for stop in stops
    )
    longest = max(map(len, (shown(name, most=14) for name in names)))
    return Chart(
        name="halving",
        title="Where runs were stopped",
        alt=f"Steps that each value got before successive halving stopped it, of {sweep.num_steps:,}: "
        + "; ".join(f"{name} {steps[point.label]:,}" for name, point in zip(names, rows, strict=True))
        + ".",
        caption=f"Stopped: {went}. The run without decay always goes on. "
        f"{len(points) - len(stopped)} of {counted(len(points), 'point')} ran to the end.{left}",
        draw=draw,
        height=70 + _ROW * len(rows),
        left=min(150.0, max(46.0, 18 + 0.62 * TEXT * longest)),
        head=("value", "steps"),
        rows=tuple((name_of(sweep, point), f"{steps[point.label]:,}") for point in points),
    )


def _evenly(points: Sequence[Point], most: int, kept: Point | None) -> list[Point]:
    if len(points) <= most:
        return list(points)
    places = {round(i * (len(points) - 1) / (most - 1)) for i in range(most)}
    if kept in points and (own := points.index(kept)) not in places:
        # The nearest inner one makes room, so that the ends stay.
        inner = places - {0, len(points) - 1}
        places = places - {min(inner, key=lambda place: abs(place - own))} | {own}
    return [points[i] for i in sorted(places)]
