"""What a sweep measured against the coefficient: every seed a dot, means a line, the chosen value marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchdecay.reports.drawing.chart import Chart, Colors, Key, dot, frame, limits, line, plain_text, spans_decades
from torchdecay.reports.drawing.palette import Style, ramp, styles
from torchdecay.reports.sweep.points import (
    Spot,
    best_spot,
    capital,
    curve_name,
    log_range,
    log_ticks,
    lr_name,
    lr_scales,
    name_of,
    spots_of,
)
from torchdecay.text import counted, listing, mean_and_spread, number, shown, spelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from torchdecay.lab.sweeps.choice import CurvePoint
    from torchdecay.lab.sweeps.points import Point
    from torchdecay.lab.sweeps.result import Sweep

BARE = Style("s0", (5, 3), "")
ERROR = Style("held", (), "s")
CHOSEN = Style("ink", (), "D")
_CLOSE = 5.0
"""How much larger than that of the better half the whole range must be for a chart of the better half."""


@dataclass(frozen=True)
class _Line:
    """One line of the chart: a learning rate, or a group."""

    name: str
    style: Style
    spots: tuple[tuple[float, Spot], ...]


def response_chart(sweep: Sweep, curve: str, *, close: bool = False) -> Chart | None:
    """The last numbers of one curve against the coefficient.

    Args:
        sweep: the results; with groups each has a line, at the best of what the others had.
        curve: its name, "validation_loss" say.
        close: only the range of the better half, where that is a small part of the whole.

    Returns:
        The chart; None where no run has the curve, or where there is nothing to look at more closely.
    """
    spots = spots_of(sweep, curve)
    lines = _lines(sweep, spots)
    told = [spot for spot in spots if spot.values]
    if not told or not any(one.spots for one in lines):
        return None
    decides = curve == sweep.measure
    bare = bare_spot(sweep, spots)
    chosen = sweep.best
    error = _error_band(sweep) if decides else None
    values = [value for spot in told for value in spot.values]
    unfinished = [spot for spot in spots if spot.early and not spot.values]
    if len(unfinished) >= len(told):
        values += [value for spot in unfinished for value in spot.early]
    window = _closer(sweep, told, error) if close else None
    if close and window is None:
        return None
    log = not close and not curve.endswith("score") and spans_decades(values)
    coefficients = [value for one in lines for value, _ in one.spots]
    several = any(len(spot.values) > 1 for spot in told)

    def draw(axes: Axes, colors: Colors) -> None:
        frame(axes, colors, x_label="coefficient", log=log)
        axes.set_xlim(*log_range(coefficients))
        log_ticks(axes, coefficients)
        if window is not None:
            axes.set_ylim(*window)
        elif log:
            axes.set_ylim(0.8 * min(values), 1.25 * max(values))
        else:
            axes.set_ylim(*limits([*values, *(error or ())], floor=0.0))
        if decides and not close and not log:
            # Room for the number at the top.
            low, high = axes.get_ylim()
            axes.set_ylim(low, high + 0.1 * (high - low))
        if error is not None:
            axes.axhspan(*error, color=colors["held"], alpha=0.18, linewidth=0, zorder=1)
        if bare is not None:
            axes.axhline(bare.mean, color=colors["s0"], linewidth=1.6, linestyle=BARE.linestyle, zorder=2)
        for one in lines:
            _draw_line(axes, one, colors, shaded=len(lines) == 1)
        if chosen is not None and not chosen.point.is_bare:
            _mark(axes, lines, chosen.point, colors, named=decides and not close)

    keys = [Key(one.name, one.style, -1) for one in lines]
    if bare is not None:
        keys.append(Key("no decay" if len(lr_scales(sweep)) == 1 else "no decay, at its best lr", BARE, -1))
    if error is not None:
        keys.append(Key("within 1 standard error of the best", ERROR, -1))
    if chosen is not None and not chosen.point.is_bare:
        keys.append(Key("chosen", CHOSEN, -1))
    title = capital(curve_name(sweep, curve)) + (", closer" if close else "")
    return Chart(
        name=curve.replace("_", "-") + "-by-coefficient" + ("-close" if close else ""),
        title=title,
        alt=_alt(sweep, curve, told, bare),
        caption=_caption(sweep, curve, told, bare, decides, several, close),
        draw=draw,
        height=300.0 if decides and not close else 250.0,
        keys=tuple(keys),
        head=("coefficient", "runs", title, "lowest", "highest"),
        rows=()
        if close
        else tuple(
            (name_of(sweep, one.point), str(len(one.values)), number(one.mean), number(min(one.values)),
             number(max(one.values)))
            for one in told
        ),
    )  # fmt: skip


def _lines(sweep: Sweep, spots: Sequence[Spot]) -> list[_Line]:
    scales = lr_scales(sweep)
    if sweep.groups:
        made = []
        own = {spot.point.label: spot for spot in spots}
        for (name, _), style in zip(sweep.groups, styles(len(sweep.groups)), strict=True):
            by_value: dict[float, list[Spot]] = {}
            # What is best is said by the measure that decides, whichever curve is drawn.
            for spot in spots_of(sweep, sweep.measure):
                if spot.point.values:
                    by_value.setdefault(dict(spot.point.values)[name], []).append(spot)
            best = {value: best_spot(sweep, some) for value, some in sorted(by_value.items())}
            found = tuple((value, own[spot.point.label]) for value, spot in best.items() if spot is not None)
            made.append(_Line(f"{shown(name, most=30)}, others at their best", style, found))
        return made
    look = ramp(len(scales)) if len(scales) > 1 else [Style("s1", (), "o")]
    return [
        _Line(
            lr_name(sweep, scale) if len(scales) > 1 else "mean, and each seed",
            style,
            tuple(
                (spot.point.value, spot)
                for spot in spots
                if spot.point.value is not None and spot.point.lr_scale == scale
            ),
        )
        for scale, style in zip(scales, look, strict=True)
    ]


def bare_spot(sweep: Sweep, spots: Sequence[Spot]) -> Spot | None:
    """The run without decay; of several learning rates that which the deciding measure likes best."""
    best = best_spot(sweep, [spot for spot in spots_of(sweep, sweep.measure) if spot.point.is_bare])
    return next((spot for spot in spots if best is not None and spot.point == best.point and spot.values), None)


def _leader(sweep: Sweep) -> CurvePoint | None:
    chosen = sweep.best
    return next((one for one in sweep.curve if chosen is not None and one.point.label == chosen.leader), None)


def _error_band(sweep: Sweep) -> tuple[float, float] | None:
    """From the best mean to one standard error below it (above, for losses)."""
    leader = _leader(sweep)
    if leader is None or leader.mean is None or not leader.spread:
        return None
    error = leader.spread / math.sqrt(leader.num_runs)
    return (leader.mean - error, leader.mean) if sweep.higher_is_better else (leader.mean, leader.mean + error)


def _closer(sweep: Sweep, told: Sequence[Spot], error: tuple[float, float] | None) -> tuple[float, float] | None:
    """The range of the better half of the points, where the whole is much larger."""
    ranked = sorted(told, key=lambda spot: spot.mean, reverse=sweep.higher_is_better)
    half = ranked[: max(3, len(ranked) // 2)]
    inner = [*(value for spot in half for value in spot.values), *(error or ())]
    every = [value for spot in told for value in spot.values]
    span = max(inner) - min(inner)
    if len(ranked) < 4 or not span or max(every) - min(every) < _CLOSE * span:
        return None
    return limits(inner, margin=0.15)


def _draw_line(axes: Axes, one: _Line, colors: Colors, *, shaded: bool) -> None:
    places = [(math.log10(value), spot) for value, spot in one.spots]
    known = [(x, spot) for x, spot in places if spot.values]
    xs = [x for x, _ in known]
    color = colors[one.style.color]
    if shaded:
        low, high = ([pick(spot.values) for _, spot in known] for pick in (min, max))
        axes.fill_between(xs, low, high, color=color, alpha=0.16, linewidth=0, gid="scan-band")
    line(axes, xs, [spot.mean for _, spot in known], one.style, colors, width=2.0, gid="scan-line")
    for x, spot in places:
        alone = len(spot.values) == 1
        axes.plot([x] * len(spot.values), spot.values, linestyle="none", marker=one.style.marker, color=color,
                  markersize=6.0 if alone else 4.2, alpha=1.0 if alone else 0.75, markeredgewidth=0,
                  zorder=4)  # fmt: skip
        axes.plot([x] * len(spot.early), spot.early, linestyle="none", marker="o", markersize=4.5, zorder=3,
                  markerfacecolor="none", markeredgecolor=colors["muted"], markeredgewidth=1.1)  # fmt: skip
        if spot.lost:
            # In the axes' own units upward: a run that diverged has no height.
            axes.plot([x], [0.03], marker="x", color=colors["ink"], markersize=6, markeredgewidth=1.6,
                      linestyle="none", transform=axes.get_xaxis_transform(), zorder=5)  # fmt: skip


def _mark(axes: Axes, lines: Sequence[_Line], point: Point, colors: Colors, *, named: bool) -> None:
    """A line down from the top, and a ring on the mean, wherever the chosen point is drawn."""
    seen = set()
    for one in lines:
        for value, spot in one.spots:
            if spot.point == point and spot.values:
                x = math.log10(value)
                low, high = axes.get_ylim()
                axes.axvline(x, color=colors["ink"], linewidth=1.0, linestyle=(0, (1, 2)), zorder=2)
                if low <= spot.mean <= high:
                    style = Style(one.style.color, (), CHOSEN.marker)
                    dot(axes, x, spot.mean, style, colors, gid="scan-chosen", size=9.5)
                    axes.plot([x], [spot.mean], marker=CHOSEN.marker, markersize=9.5, markerfacecolor="none",
                              markeredgecolor=colors["ink"], markeredgewidth=1.4, zorder=6)  # fmt: skip
                if named and value not in seen:
                    left, right = axes.get_xlim()
                    late = x > 0.5 * (left + right)
                    plain_text(axes, x, 1.0, f" {spelled(value)} ", colors["ink"], va="top",
                               ha="right" if late else "left", fontweight="bold", gid="halo",
                               transform=axes.get_xaxis_transform())  # fmt: skip
                seen.add(value)


def _alt(sweep: Sweep, curve: str, told: Sequence[Spot], bare: Spot | None) -> str:
    parts = [f"{capital(curve_name(sweep, curve))} at the end against the coefficient, on a log scale."]
    for spot in told:
        spread = f" ({number(min(spot.values))} to {number(max(spot.values))})" if len(spot.values) > 1 else ""
        what = "without decay" if spot.point.is_bare else f"at {name_of(sweep, spot.point)}"
        parts.append(f"{capital(what)}: {number(spot.mean)}{spread}.")
    return " ".join(parts[:40])


def _caption(
    sweep: Sweep, curve: str, told: Sequence[Spot], bare: Spot | None, decides: bool, several: bool, close: bool
) -> str:
    if close:
        return "The same as above, as high as the better half reaches."
    means = sorted(told, key=lambda spot: spot.mean)
    low, high = means[0], means[-1]
    sentences = []
    if decides:
        sentences += _choice(sweep, bare)
    elif number(low.mean) == number(high.mean):
        sentences.append(f"{number(low.mean)} for all.")
    else:
        sentences.append(
            f"Lowest for {name_of(sweep, low.point)} ({number(low.mean)}), highest for "
            f"{name_of(sweep, high.point)} ({number(high.mean)})."
        )
    if several and decides:
        alone = not sweep.groups and len(lr_scales(sweep)) == 1
        shade = "; the shade reaches from the lowest to the highest" if alone else ""
        sentences.append(f"Each small mark is a seed{shade}.")
    lost = sum(spot.lost for spot in told)
    if lost:
        sentences.append(f"✕: {counted(lost, 'run')} diverged.")
    if decides and any(spot.early for spot in spots_of(sweep, curve)):
        sentences.append("Hollow: stopped early, at the value it had then.")
    return " ".join(sentences)


def _choice(sweep: Sweep, bare: Spot | None) -> list[str]:
    chosen, band = sweep.best, _error_band(sweep)
    if chosen is None:
        return []
    by_label = {one.point.label: one for one in sweep.curve}
    own, leader = by_label[chosen.point.label], by_label[chosen.leader]
    sentences = []
    if leader.mean is not None:
        told = mean_and_spread(leader.mean, leader.spread)
        sentences.append(f"The best mean is that of {name_of(sweep, leader.point)}: {told}.")
    if band is not None:
        near = [
            name_of(sweep, one.point)
            for one in sweep.curve
            if one.mean is not None and one.num_runs == chosen.num_seeds and one.point.label != chosen.leader
            and band[0] <= one.mean <= band[1]
        ]  # fmt: skip
        if near:
            sentences.append(f"Within one standard error of it: {listing(near, most=6)}.")
    if chosen.leader != chosen.point.label and own.mean is not None:
        sentences.append(f"Chosen is {name_of(sweep, own.point)}, the strongest of these.")
    if bare is not None and not leader.point.is_bare:
        sentences.append(f"Without decay: {number(bare.mean)}.")
    return sentences
