"""What a sweep measured against the coefficient: every seed a dot, means a line, the chosen value marked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchdecay.reports.drawing.axes import Axis, limits, spans_decades, y_axis
from torchdecay.reports.drawing.chart import Chart, Key, Plot
from torchdecay.reports.drawing.marks import Band, Box, Dots, Line, Mark, Rule, Text, dot
from torchdecay.reports.drawing.palette import Style, ramp, styles
from torchdecay.reports.sweep.points import MOST, Points, Spot, log_range, log_ticks
from torchdecay.text import capital, counted, listing, mean_and_spread, number, shown, spelled

if TYPE_CHECKING:
    from torchdecay.lab.sweeps.points import Point

BARE = Style("s0", (5, 3), "")
ERROR = Style("held", (), "s")
CHOSEN = Style("ink", (), "D")
PLACE = Style("ink", (), "s")
_CLOSE = 5.0
"""How much larger than that of the better half the whole range must be for a chart of the better half."""


@dataclass(frozen=True)
class Curve:
    """One line of the chart, a learning rate or a group: its ascending coefficients, and what was measured there."""

    name: str
    style: Style
    spots: tuple[tuple[float, Spot], ...]


@dataclass(frozen=True)
class Response:
    """What was measured of one quantity against the coefficient, or `close`, in the range of the better half only.

    `told` are the spots with a number; `error` reaches from the best mean to one standard error from it, where this is
    the quantity that decides.
    """

    points: Points
    curve: str
    close: bool
    lines: tuple[Curve, ...]
    told: tuple[Spot, ...]
    bare: Spot | None
    error: tuple[float, float] | None

    @property
    def decides(self) -> bool:
        """Whether the choice looks at this quantity."""
        return self.curve == self.points.sweep.measure

    @property
    def chosen(self) -> Point | None:
        """The chosen point, unless that is the one without decay."""
        best = self.points.sweep.best
        return None if best is None or best.point.is_bare else best.point

    @property
    def place(self) -> tuple[float, float] | None:
        """Where the best value itself lies, on the chart of the quantity that decides."""
        best = self.points.sweep.optimum if self.decides and not self.close else None
        return None if best is None else (best.low, best.high)

    @property
    def values(self) -> list[float]:
        """All numbers that the axis must hold."""
        unfinished = [spot for spot in self.points.spots[self.curve] if spot.early and not spot.values]
        early = [value for spot in unfinished for value in spot.early] if len(unfinished) >= len(self.told) else []
        return [value for spot in self.told for value in spot.values] + early


def response_of(points: Points, curve: str, *, close: bool = False) -> Response | None:
    """Select what a chart of this quantity shows; None where no run has it.

    With groups each has a line, at the best of what the others had.
    """
    told = tuple(spot for spot in points.spots[curve] if spot.values)
    lines = tuple(_lines(points, points.spots[curve]))
    if not told or not any(one.spots for one in lines):
        return None
    error = _error_band(points) if curve == points.sweep.measure else None
    return Response(points, curve, close, lines, told, points.bare(curve), error)


def response_chart(points: Points, curve: str, *, close: bool = False) -> Chart | None:
    """The last numbers of one quantity against the coefficient; None where there is nothing to look at."""
    found = response_of(points, curve, close=close)
    plot = None if found is None else _plot(found)
    if found is None or plot is None:
        return None
    title = capital(points.curve_name(curve)) + (", closer" if close else "")
    rows = tuple(
        (points.name(one.point), str(len(one.values)), number(one.mean), number(min(one.values)),
         number(max(one.values)))
        for one in points.some(found.told, lambda spot: spot.point)
    )  # fmt: skip
    return Chart(
        name=curve.replace("_", "-") + "-by-coefficient" + ("-close" if close else ""),
        title=title,
        alt=_alt(found),
        caption=_caption(found),
        plot=plot,
        height=300.0 if found.decides and not close else 250.0,
        keys=tuple(_keys(found)),
        head=("coefficient", "runs", title, "lowest", "highest"),
        rows=() if close else rows,
    )


def _lines(points: Points, spots: Sequence[Spot]) -> Iterator[Curve]:
    sweep = points.sweep
    if sweep.groups:
        own = {spot.point.label: spot for spot in spots}
        for (name, _), style in zip(sweep.groups, styles(len(sweep.groups)), strict=True):
            by_value: dict[float, list[Spot]] = {}
            # What is best is said by the measure that decides, whichever curve is drawn.
            for spot in points.deciding:
                if spot.point.values:
                    by_value.setdefault(dict(spot.point.values)[name], []).append(spot)
            best = {value: points.best_of(some) for value, some in sorted(by_value.items())}
            found = tuple((value, own[spot.point.label]) for value, spot in best.items() if spot is not None)
            yield Curve(f"{shown(name, most=30)}, others at their best", style, found)
        return
    several = len(points.scales) > 1
    look = ramp(len(points.scales)) if several else [Style("s1", (), "o")]
    for scale, style in zip(points.scales, look, strict=True):
        here = [spot for spot in spots if spot.point.lr_scale == scale]
        found = tuple((spot.point.value, spot) for spot in here if spot.point.value is not None)
        yield Curve(points.lr_name(scale) if several else "mean, and each seed", style, found)


def _error_band(points: Points) -> tuple[float, float] | None:
    """From the best mean to one standard error below it (above, for losses)."""
    chosen = points.sweep.best
    leader = None if chosen is None else points.measured[chosen.leader]
    if leader is None or leader.mean is None or not leader.spread:
        return None
    error = leader.spread / math.sqrt(leader.num_runs)
    return (leader.mean - error, leader.mean) if points.sweep.higher_is_better else (leader.mean, leader.mean + error)


def _plot(found: Response) -> Plot | None:
    """What is drawn; None for a closer look that would show no more."""
    height = _height(found)
    if height is None:
        return None
    coefficients = [value for one in found.lines for value, _ in one.spots]
    width = Axis(*log_range(coefficients), ticks=log_ticks(coefficients))
    marks: list[Mark] = []
    if found.error is not None:
        marks.append(Box(width.low, found.error[0], width.high, found.error[1], "held", 0.18))
    if found.place is not None:
        low, high = (min(max(math.log10(end), width.low), width.high) for end in found.place)
        marks.append(Box(low, height.low, high, height.low + 0.025 * (height.high - height.low), "ink", 0.75))
    if found.bare is not None:
        marks.append(Rule("y", found.bare.mean, BARE, 1.6))
    for one in found.lines:
        marks += _line_marks(one, shaded=len(found.lines) == 1)
    if found.chosen is not None:
        marks += _chosen_marks(found, found.chosen, width, height)
    return Plot(width, height, "coefficient", tuple(marks))


def _height(found: Response) -> Axis | None:
    if found.close:
        window = _closer(found)
        return None if window is None else Axis(*window, grid=True)
    if not found.curve.endswith("score") and spans_decades(found.values):
        return y_axis(found.values, log=True)
    low, high = limits([*found.values, *(found.error or ())], floor=0.0)
    # Where the choice is marked, room for its number at the top.
    return Axis(low, high + 0.1 * (high - low) if found.decides else high, grid=True)


def _closer(found: Response) -> tuple[float, float] | None:
    """The range of the better half of the points, where the whole is much larger."""
    ranked = sorted(found.told, key=lambda spot: spot.mean, reverse=found.points.sweep.higher_is_better)
    half = ranked[: max(3, len(ranked) // 2)]
    inner = [*(value for spot in half for value in spot.values), *(found.error or ())]
    every = [value for spot in found.told for value in spot.values]
    span = max(inner) - min(inner)
    if len(ranked) < 4 or not span or max(every) - min(every) < _CLOSE * span:
        return None
    return limits(inner, margin=0.15)


def _line_marks(one: Curve, *, shaded: bool) -> Iterator[Mark]:
    places = [(math.log10(value), spot) for value, spot in one.spots]
    known = [(x, spot) for x, spot in places if spot.values]
    xs = tuple(x for x, _ in known)
    color = one.style.color
    if shaded:
        low, high = (tuple(pick(spot.values) for _, spot in known) for pick in (min, max))
        yield Band(xs, low, high, color, "scan-band")
    yield Line(xs, [spot.mean for _, spot in known], one.style, 2.0, "scan-line")
    for x, spot in places if len(places) <= MOST else ():
        size, alpha = (6.0, 1.0) if len(spot.values) == 1 else (4.2, 0.75)
        yield Dots((x,) * len(spot.values), spot.values, one.style.marker, size, color, color, alpha=alpha, z=4)
        yield Dots((x,) * len(spot.early), spot.early, "o", 4.5, "", "muted", 1.1, z=3)
        if spot.lost:
            # A run that diverged has no height.
            yield Dots((x,), (0.03,), "x", 6, "ink", "ink", 1.6, at_bottom=True)


def _chosen_marks(found: Response, chosen: Point, width: Axis, height: Axis) -> Iterator[Mark]:
    """A line down from the top, and a ring on the mean, wherever the chosen point is drawn."""
    seen = set()
    for one in found.lines:
        for value, spot in one.spots:
            if spot.point != chosen or not spot.values:
                continue
            x = math.log10(value)
            yield Rule("x", x, Style("ink", (1, 2), ""))
            if height.low <= spot.mean <= height.high:
                yield dot(x, spot.mean, Style(one.style.color, (), CHOSEN.marker), gid="scan-chosen", size=9.5)
                yield Dots((x,), (spot.mean,), CHOSEN.marker, 9.5, "", "ink", 1.4, z=6)
            if found.decides and not found.close and value not in seen:
                late = x > 0.5 * (width.low + width.high)
                yield Text(x, 1.0, f" {spelled(value)} ", bold=True, ha="right" if late else "left", va="top",
                           in_heights=True, halo=True)  # fmt: skip
            seen.add(value)


def _keys(found: Response) -> Iterator[Key]:
    for one in found.lines:
        yield Key(one.name, one.style, -1)
    if found.bare is not None:
        yield Key("no decay" if len(found.points.scales) == 1 else "no decay, at its best lr", BARE, -1)
    if found.error is not None:
        yield Key("within 1 standard error of the best", ERROR, -1)
    if found.chosen is not None:
        yield Key("chosen", CHOSEN, -1)
    if found.place is not None:
        yield Key("where the best value lies, 95 %", PLACE, -1)


def _alt(found: Response) -> str:
    points = found.points
    parts = [f"{capital(points.curve_name(found.curve))} at the end against the coefficient, on a log scale."]
    for spot in found.told:
        spread = f" ({number(min(spot.values))} to {number(max(spot.values))})" if len(spot.values) > 1 else ""
        what = "without decay" if spot.point.is_bare else f"at {points.name(spot.point)}"
        parts.append(f"{capital(what)}: {number(spot.mean)}{spread}.")
    return " ".join(parts[:40])


def _caption(found: Response) -> str:
    if found.close:
        return "The same as above, as high as the better half reaches."
    points = found.points
    means = sorted(found.told, key=lambda spot: spot.mean)
    low, high = means[0], means[-1]
    sentences: list[str] = []
    if found.decides:
        sentences += _choice(found)
    elif number(low.mean) == number(high.mean):
        sentences.append(f"{number(low.mean)} for all.")
    else:
        sentences.append(
            f"Lowest for {points.name(low.point)} ({number(low.mean)}), highest for "
            f"{points.name(high.point)} ({number(high.mean)})."
        )
    if found.decides and any(len(spot.values) > 1 for spot in found.told):
        alone = not points.sweep.groups and len(points.scales) == 1
        shade = "; the shade reaches from the lowest to the highest" if alone else ""
        seeds = "Seeds are not drawn, there are so many" if len(found.told) > MOST else "Each small mark is a seed"
        sentences.append(f"{seeds}{shade}.")
    lost = sum(spot.lost for spot in found.told)
    if lost:
        sentences.append(f"✕: {counted(lost, 'run')} diverged.")
    if found.decides and any(spot.early for spot in points.spots[found.curve]):
        sentences.append("Hollow: stopped early, at the value it had then.")
    return " ".join(sentences)


def _choice(found: Response) -> Iterator[str]:
    points, band, chosen = found.points, found.error, found.points.sweep.best
    if chosen is None:
        return
    leader = points.measured[chosen.leader]
    if leader.mean is not None:
        told = mean_and_spread(leader.mean, leader.spread)
        yield f"The best mean is that of {points.name(leader.point)}: {told}."
    if band is not None:
        near = [
            points.name(one.point)
            for one in points.sweep.curve
            if one.mean is not None and one.num_runs == chosen.num_seeds and one.point.label != chosen.leader
            and band[0] <= one.mean <= band[1]
        ]  # fmt: skip
        if near:
            yield f"Within one standard error of it: {listing(near, most=6)}."
    if chosen.leader != chosen.point.label:
        yield f"Chosen is {points.name(chosen.point)}, the strongest of these."
    if found.bare is not None and not leader.point.is_bare:
        yield f"Without decay: {number(found.bare.mean)}."
