"""A sweep over two numbers as a map: coefficient and learning rate, or the coefficients of two groups."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torchdecay.reports.drawing.chart import SMALL, Chart, Colors, frame, plain_text, tick
from torchdecay.reports.sweep.points import (
    Spot,
    best_spot,
    capital,
    curve_name,
    log_ticks,
    lr_scales,
    name_of,
    spots_of,
)
from torchdecay.text import listing, number, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from torchdecay.lab.sweeps.points import Point
    from torchdecay.lab.sweeps.result import Sweep

_MOST_WITH_TEXT = 8
_FAINT, _FULL = 0.05, 0.55
"""Opacity of the worst and of the best: text on either keeps a contrast of 4.5 in light and in dark."""


def map_chart(sweep: Sweep) -> Chart | None:
    """The deciding measure over two axes, with more color where it is better; None where one number was varied.

    With learning rates, dashed lines join what has the same product of learning rate and coefficient.
    """
    two = _axes_of(sweep)
    if two is None:
        return None
    x_name, y_name, place = two
    by_lr = not sweep.groups
    every = [spot for spot in spots_of(sweep, sweep.measure) if by_lr or not spot.point.is_bare]
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
    shades = _shades(sweep, told)
    best = best_spot(sweep, told)
    assert best is not None
    strong = best_spot(sweep, pulled)
    products = _products(places, place(strong.point)) if by_lr and strong is not None else []

    def draw(axes: Axes, colors: Colors) -> None:
        frame(axes, colors, x_label=x_name)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(x_cuts[0], x_cuts[-1])
        axes.set_ylim(y_cuts[0], y_cuts[-1])
        step = math.ceil(len(xs) / 6)
        at, named = xs[::step], [tick(value) for value in columns[::step]]
        axes.set_xticks([bare_x, *at] if by_lr else at, ["none", *named] if by_lr else named)
        if len(rows) > 6:
            log_ticks(axes, rows, along="y")
        else:
            axes.set_yticks(ys, [tick(float(f"{value:.3g}")) for value in rows])
        plain_text(axes, 0.0, 1.0, y_name, colors["muted"], fontsize=SMALL, va="bottom", ha="left",
                   transform=axes.transAxes)  # fmt: skip
        for spot in every:
            value, other = place(spot.point)
            where = (bare_x if spot.point.is_bare else math.log10(value), math.log10(other))
            _draw_spot(axes, spot, where, shades.get(spot.point.label), colors, cuts=(x_cuts, y_cuts) if is_grid else
                       None, chosen=spot.point == own, told=len(columns) < _MOST_WITH_TEXT)  # fmt: skip
        for product in products:
            across = [x_cuts[1], x_cuts[-1]]
            axes.plot(across, [math.log10(product) - x for x in across], color=colors["ink"], linewidth=1.0, alpha=0.55,
                      linestyle=(0, (5, 4)), zorder=3, scalex=False, scaley=False)  # fmt: skip

    title = f"{capital(curve_name(sweep, sweep.measure))} by {x_name} and {y_name}"
    return Chart(
        name="map",
        title=title,
        alt=f"{title}, as a map. "
        + " ".join(f"{name_of(sweep, spot.point)}: {number(spot.mean)}." for spot in told[:60]),
        caption=_caption(sweep, best, by_lr, own),
        draw=draw,
        height=110.0 + min(220.0, 46.0 * len(rows)),
        left=62.0,
        head=("point", "runs", capital(curve_name(sweep, sweep.measure))),
        rows=tuple(
            (name_of(sweep, spot.point), str(len(spot.values)), number(spot.mean) if spot.values else "no finite run")
            for spot in every
        ),
    )


def _axes_of(sweep: Sweep) -> tuple[str, str, Callable[[Point], tuple[float, float]]] | None:
    """Names of the two axes, and where a point stands on them; None where there are not two."""
    if len(sweep.groups) == 2:
        first, second = (name for name, _ in sweep.groups)

        def of_groups(point: Point) -> tuple[float, float]:
            values = dict(point.values)
            return values[first], values[second]

        return shown(first, most=24), shown(second, most=24), of_groups
    if sweep.groups or len(lr_scales(sweep)) < 2:
        return None
    lr = sweep.lr or 1.0

    def of_rate(point: Point) -> tuple[float, float]:
        return point.value or 0.0, lr * point.lr_scale

    return "coefficient", "learning rate" if sweep.lr is not None else "lr, multiplied by", of_rate


def _shades(sweep: Sweep, told: Sequence[Spot]) -> dict[str, float]:
    """From 0 for the worst to 1 for the best; a cliff of bad ones does not use the range up."""
    sign = 1.0 if sweep.higher_is_better else -1.0
    ranked = sorted(sign * spot.mean for spot in told)
    top, middle = ranked[-1], ranked[len(ranked) // 2]
    bottom = max(ranked[0], top - 3 * (top - middle)) if top > middle else ranked[0]
    span = top - bottom or 1.0
    return {spot.point.label: min(1.0, max(0.0, (sign * spot.mean - bottom) / span)) for spot in told}


def _draw_spot(
    axes: Axes, spot: Spot, at: tuple[float, float], shade: float | None, colors: Colors,
    *, cuts: tuple[list[float], list[float]] | None, chosen: bool, told: bool,
) -> None:  # fmt: skip
    from matplotlib.patches import Rectangle

    x, y = at
    alpha = 0.0 if shade is None else _FAINT + (_FULL - _FAINT) * shade
    edge, width = (colors["ink"], 2.4) if chosen else (colors["card"], 1.5)
    if cuts is None:
        axes.plot([x], [y], marker="o", markersize=13, linestyle="none", color=colors["s1"], alpha=alpha, zorder=2)
        axes.plot([x], [y], marker="o", markersize=13, linestyle="none", markerfacecolor="none", zorder=4,
                  markeredgecolor=edge if chosen else colors["axis"],
                  markeredgewidth=2.2 if chosen else 0.8)  # fmt: skip
    else:
        (left, right), (low, high) = (_around(value, some) for value, some in zip(at, cuts, strict=True))
        box = (left, low), right - left, high - low
        axes.add_patch(Rectangle(*box, facecolor=colors["s1"], alpha=alpha, linewidth=0, zorder=1))
        axes.add_patch(Rectangle(*box, fill=False, edgecolor=edge, linewidth=width, zorder=5 if chosen else 2))
    if spot.lost or shade is None:
        plain_text(axes, x, y, "✕", colors["ink"], ha="center", va="center", gid="halo", zorder=6)
    elif told and cuts is not None:
        plain_text(axes, x, y, number(spot.mean), colors["ink"], ha="center", va="center", fontsize=SMALL, zorder=6,
                   fontweight="bold" if chosen else "normal", gid="halo")  # fmt: skip


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


def _caption(sweep: Sweep, best: Spot, by_lr: bool, own: Point | None) -> str:
    sentences = [f"More color is better. Best mean: {number(best.mean)} at {name_of(sweep, best.point)}."]
    if own is not None and not own.is_bare:
        named = "" if own == best.point else f", {name_of(sweep, own)}"
        sentences.append(f"The frame is the choice{named}.")
    if by_lr:
        sentences.append(
            "Along a dashed line lr · coefficient is the same, ten times as much from one line to the next: where good "
            "places lie along a line, it is the product that counts."
        )
    lost = [name_of(sweep, spot.point) for spot in spots_of(sweep, sweep.measure) if spot.lost]
    if lost:
        sentences.append(f"✕: diverged ({listing(lost, most=4)}).")
    return " ".join(sentences)
