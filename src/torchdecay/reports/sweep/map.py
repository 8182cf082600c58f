"""A sweep over two numbers as a map: coefficient and learning rate, or the coefficients of two groups."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from torchdecay.reports.drawing.axes import Axis, tick
from torchdecay.reports.drawing.chart import Chart, Plot
from torchdecay.reports.drawing.marks import Box, Dots, Line, Mark, Text
from torchdecay.reports.drawing.palette import SMALL, Style
from torchdecay.reports.sweep.points import Points, Spot, log_ticks
from torchdecay.text import capital, listing, number, shown

if TYPE_CHECKING:
    from torchdecay.lab.sweeps.points import Point

_MOST_WITH_TEXT = 8
_FAINT, _FULL = 0.05, 0.55
"""Opacity of the worst and of the best: text on either keeps a contrast of 4.5 in light and in dark."""


def map_chart(points: Points) -> Chart | None:
    """The deciding measure over two axes, with more color where it is better; None where one number was varied.

    With learning rates, dashed lines join what has the same product of learning rate and coefficient.
    """
    sweep = points.sweep
    two = _axes_of(points)
    if two is None:
        return None
    x_name, y_name, place = two
    by_lr = not sweep.groups
    every = [spot for spot in points.deciding if by_lr or not spot.point.is_bare]
    pulled = [spot for spot in every if not spot.point.is_bare]
    told = [spot for spot in every if spot.values]
    if not told or not pulled:
        return None
    places = [place(spot.point) for spot in pulled]
    columns, rows = (sorted({pair[i] for pair in places}) for i in (0, 1))
    is_grid = len(columns) * len(rows) <= 2 * len(pulled)
    xs, ys = ([math.log10(value) for value in axis] for axis in (columns, rows))
    # No decay has no place on a log scale: it stands before the first.
    bare_x = xs[0] - (xs[1] - xs[0] if len(xs) > 1 else 1.0)
    x_cuts, y_cuts = _cuts([bare_x, *xs] if by_lr else xs), _cuts(ys)
    chosen = sweep.best
    own = chosen.point if chosen is not None else None
    shades = _shades(told, sign=1.0 if sweep.higher_is_better else -1.0)
    best = points.best_of(told)
    assert best is not None
    strong = points.best_of(pulled)
    products = _products(places, place(strong.point)) if by_lr and strong is not None else []

    every_nth = math.ceil(len(xs) / 6)
    x_ticks = tuple((x, tick(value)) for x, value in zip(xs[::every_nth], columns[::every_nth], strict=True))
    y_ticks = tuple((y, tick(float(f"{value:.3g}"))) for y, value in zip(ys, rows, strict=True))
    marks: list[Mark] = [Text(0.0, 1.0, y_name, "muted", SMALL, va="bottom", in_widths=True, in_heights=True)]
    for spot in every:
        value, other = place(spot.point)
        at = (bare_x if spot.point.is_bare else math.log10(value), math.log10(other))
        marks += _spot_marks(spot, at, shades.get(spot.point.label), cuts=(x_cuts, y_cuts) if is_grid else None,
                             chosen=spot.point == own, told=len(columns) < _MOST_WITH_TEXT)  # fmt: skip
    across = (x_cuts[1], x_cuts[-1])
    for product in products:
        along = tuple(math.log10(product) - x for x in across)
        marks.append(Line(across, along, Style("ink", (5, 4), ""), 1.0, alpha=0.55))
    plot = Plot(
        Axis(x_cuts[0], x_cuts[-1], ticks=((bare_x, "none"), *x_ticks) if by_lr else x_ticks),
        Axis(y_cuts[0], y_cuts[-1], ticks=log_ticks(rows) if len(rows) > 6 else y_ticks),
        x_name,
        tuple(marks),
    )
    title = f"{capital(points.curve_name(sweep.measure))} by {x_name} and {y_name}"
    return Chart(
        name="map",
        title=title,
        alt=f"{title}, as a map. " + " ".join(f"{points.name(spot.point)}: {number(spot.mean)}." for spot in told[:60]),
        caption=_caption(points, best, by_lr, own),
        plot=plot,
        height=110.0 + min(220.0, 46.0 * len(rows)),
        left=62.0,
        head=("point", "runs", capital(points.curve_name(sweep.measure))),
        rows=tuple(
            (points.name(spot.point), str(len(spot.values)), number(spot.mean) if spot.values else "no finite run")
            for spot in every
        ),
    )


def _axes_of(points: Points) -> tuple[str, str, Callable[[Point], tuple[float, float]]] | None:
    """Names of the two axes, and where a point stands on them; None where there are not two."""
    sweep = points.sweep
    if len(sweep.groups) == 2:
        first, second = (name for name, _ in sweep.groups)

        def of_groups(point: Point) -> tuple[float, float]:
            values = dict(point.values)
            return values[first], values[second]

        return shown(first, most=24), shown(second, most=24), of_groups
    if sweep.groups or len(points.scales) < 2:
        return None
    lr = sweep.lr or 1.0

    def of_rate(point: Point) -> tuple[float, float]:
        return point.value or 0.0, lr * point.lr_scale

    return "coefficient", "learning rate" if sweep.lr is not None else "lr, multiplied by", of_rate


def _shades(told: Sequence[Spot], *, sign: float) -> dict[str, float]:
    """From 0 for the worst to 1 for the best; a cliff of bad ones does not use the range up."""
    ranked = sorted(sign * spot.mean for spot in told)
    top, middle = ranked[-1], ranked[len(ranked) // 2]
    bottom = max(ranked[0], top - 3 * (top - middle)) if top > middle else ranked[0]
    span = top - bottom or 1.0
    return {spot.point.label: min(1.0, max(0.0, (sign * spot.mean - bottom) / span)) for spot in told}


def _spot_marks(
    spot: Spot, at: tuple[float, float], shade: float | None,
    *, cuts: tuple[list[float], list[float]] | None, chosen: bool, told: bool,
) -> Iterator[Mark]:  # fmt: skip
    x, y = at
    alpha = 0.0 if shade is None else _FAINT + (_FULL - _FAINT) * shade
    if cuts is None:
        yield Dots((x,), (y,), "o", 13, "s1", "s1", 1.0, alpha, z=2)
        yield Dots((x,), (y,), "o", 13, "", "ink" if chosen else "axis", 2.2 if chosen else 0.8, z=4)
    else:
        (left, right), (low, high) = (_around(value, some) for value, some in zip(at, cuts, strict=True))
        yield Box(left, low, right, high, "s1", alpha)
        edge, width = ("ink", 2.4) if chosen else ("card", 1.5)
        yield Box(left, low, right, high, edge=edge, width=width, z=5 if chosen else 2)
    if spot.lost or shade is None:
        yield Text(x, y, "✕", ha="center", va="center", halo=True, z=6)
    elif told and cuts is not None:
        yield Text(x, y, number(spot.mean), size=SMALL, bold=chosen, ha="center", va="center", halo=True, z=6)


def _cuts(places: Sequence[float]) -> list[float]:
    """Bounds between neighbors, and as far beyond the ends."""
    if len(places) == 1:
        return [places[0] - 0.5, places[0] + 0.5]
    inner = [(a + b) / 2 for a, b in itertools.pairwise(places)]
    return [2 * places[0] - inner[0], *inner, 2 * places[-1] - inner[-1]]


def _around(value: float, cuts: Sequence[float]) -> tuple[float, float]:
    return max(cut for cut in cuts if cut <= value), min(cut for cut in cuts if cut > value)


def _products(places: Sequence[tuple[float, float]], best: tuple[float, float]) -> list[float]:
    """Learning rate times coefficient of the best, and powers of ten times that as far as the map reaches."""
    own = best[0] * best[1]
    every = [x * y for x, y in places]
    least, most = (math.log10(value / own) for value in (min(every), max(every)))
    return [own * 10.0**exponent for exponent in range(math.ceil(least - 1e-9), math.floor(most + 1e-9) + 1)]


def _caption(points: Points, best: Spot, by_lr: bool, own: Point | None) -> str:
    sentences = [f"More color is better. Best mean: {number(best.mean)} at {points.name(best.point)}."]
    if own is not None and not own.is_bare:
        named = "" if own == best.point else f", {points.name(own)}"
        sentences.append(f"The frame is the choice{named}.")
    if by_lr:
        sentences.append(
            "Along a dashed line lr · coefficient is the same, ten times as much from one line to the next: where good "
            "places lie along a line, it is the product that counts."
        )
    lost = [points.name(spot.point) for spot in points.deciding if spot.lost]
    if lost:
        sentences.append(f"✕: diverged ({listing(lost, most=4)}).")
    return " ".join(sentences)
