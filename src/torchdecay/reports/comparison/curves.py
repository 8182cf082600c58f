"""Charts of a curve over time: loss, score, weight norm, gradient norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torchdecay.reports.comparison.series import (
    MOST_POINTS,
    MOST_POINTS_OF_MANY,
    Series,
    coincident,
    curve_name,
    series_of,
)
from torchdecay.reports.drawing.axes import cut_at, spans_decades, steps_axis, tick, y_axis
from torchdecay.reports.drawing.chart import Chart, Key, Plot, rows_at
from torchdecay.reports.drawing.marks import Band, Line, Mark, Rule, Text, dot
from torchdecay.reports.drawing.palette import SMALL, Style, ramp, styles
from torchdecay.text import capital, counted, listing, number

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison

_MOST_HUES, _MOST_BANDS = 5, 4
_LOSSES = ("train_loss", "test_loss", "validation_loss")
_SCORES = ("train_score", "test_score", "validation_score")


def label_styles(comparison: Comparison) -> list[Style]:
    """One style per label, the baseline gray; more than five others go from weak to strong."""
    base = comparison.baseline
    plain = base is not None and any(run.decay == "none" for run in comparison.of(base))
    gray = comparison.labels.index(base) if base and plain else None
    made = styles(len(comparison.labels), baseline=gray)
    others = [i for i in range(len(made)) if i != gray]
    if len(others) > _MOST_HUES:
        for i, style in zip(others, ramp(len(others)), strict=True):
            made[i] = replace(style, dashes=made[i].dashes)
    return made


def curve_chart(comparison: Comparison, curve: str, *, look: Sequence[Style] | None = None) -> Chart | None:
    """Mean and range over seeds of one curve, a line per label; None when no run has it.

    Train and test charts of the same measure share their y axis, so that the gap can be seen between them.
    """
    drawn = series_of(comparison, curve)
    if not drawn:
        return None
    family = next((names for names in (_LOSSES, _SCORES) if curve in names), (curve,))
    relatives = [one for name in family for one in (drawn if name == curve else series_of(comparison, name))]
    values = [value for one in relatives for value in (*one.low, *one.high)]
    top = cut_at(values)
    usual = [value for value in values if top is None or value <= top]
    log = curve in ("weight_norm", "gradient_norm") and spans_decades(usual)
    floor = 0.0 if curve in _LOSSES or family is _SCORES else None
    chance = comparison.chance_loss if curve in _LOSSES else None
    height = y_axis([*usual, *([chance] if chance is not None else [])], floor=floor, log=log)
    look = look or label_styles(comparison)
    same = coincident(drawn)
    title = capital(curve_name(curve, comparison))

    last = max(one.steps[-1] for one in drawn)
    marks: list[Mark] = []
    if chance is not None:
        marks.append(Rule("y", chance, Style("muted", (2, 3), "")))
        marks.append(
            Text(last, chance, f"chance {tick(round(chance, 3))}", "muted", SMALL, ha="right", va="bottom", halo=True)
        )
    most = MOST_POINTS_OF_MANY if len(drawn) > 1 + _MOST_HUES else MOST_POINTS
    for one in [full.thinned(most) for full in drawn]:
        style, gid = look[one.index], f"series-{one.index}"
        # Many bands on each other are mud: on a page these show under the pointer.
        is_mud = len(drawn) > _MOST_BANDS
        marks.append(Band(one.steps, one.low, one.high, style.color, f"{gid}-band", quiet=is_mud))
        marks.append(Line(one.steps, one.mean, style, _width(one.index, same), f"{gid}-line", each=one.each))
    for one in drawn:
        if one.finite and one.finite[-1][0] == one.steps[-1]:
            marks.append(dot(one.steps[-1], one.mean[-1], look[one.index], gid=f"series-{one.index}-end"))
        elif one.finite:
            x, y = one.finite[-1]
            # Far outside the axes a glyph would overflow the rasterizer.
            y = min(max(y, height.low), height.high)
            marks.append(Text(x, y, "✕ diverged", va="center", halo=True, ha="right" if x > 0.7 * last else "left"))

    return Chart(
        name=curve.replace("_", "-"),
        title=title,
        alt=_alt(comparison, curve, title, drawn),
        caption=_caption(comparison, curve, drawn, same, top, most),
        plot=Plot(steps_axis(last), height, comparison.step_name, tuple(marks)),
        keys=tuple(Key(one.label, look[one.index], one.index) for one in drawn),
        head=(comparison.step_name, *(one.label for one in drawn)),
        rows=rows_at(max((one.steps for one in drawn), key=len), [(one.steps, one.mean) for one in drawn]),
    )


def _width(index: int, same: Sequence[Sequence[Series]]) -> float:
    # Lines that lie on each other are drawn thick below thin, so that each can be seen.
    for group in same:
        members = [one.index for one in group]
        if index in members:
            return 1.8 + min(2.6, 8.0 / len(members)) * (len(members) - 1 - members.index(index))
    return 2.0


def _alt(comparison: Comparison, curve: str, title: str, drawn: Sequence[Series]) -> str:
    last = max(one.steps[-1] for one in drawn)
    parts = [f"{title} over {last:,.0f} {comparison.step_name}s."]
    turn = max if curve in _SCORES else min
    for one in drawn:
        points = one.finite
        if not points:
            parts.append(f"{one.label}: never finite.")
            continue
        start, end = points[0], points[-1]
        text = f"{one.label}: from {number(start[1])} to {number(end[1])}"
        if one.num_seeds > 1 and not one.diverged:
            text += f" ({counted(one.num_seeds, 'seed')}, {number(one.low[-1])} to {number(one.high[-1])})"
        if curve in _LOSSES + _SCORES:
            best = turn(points, key=lambda point: point[1])
            if best[0] not in (start[0], end[0]):
                text += f", best {number(best[1])} at {comparison.step_name} {best[0]:,.0f}"
        for seed, step in one.diverged:
            text += f", seed {seed} not finite from {comparison.step_name} {step:,} on"
        parts.append(text + ".")
    return " ".join(parts)


def _caption(
    comparison: Comparison,
    curve: str,
    drawn: Sequence[Series],
    same: Sequence[Sequence[Series]],
    top: float | None,
    most: int,
) -> str:
    ends = [(one.mean[-1], one.label) for one in drawn if math.isfinite(one.mean[-1])]
    sentences = []
    if len(ends) > 1:
        low, high = min(ends), max(ends)
        if number(low[0]) == number(high[0]):
            sentences.append(f"All end at {number(low[0])}.")
        else:
            sentences.append(f"Ends lowest for {low[1]} ({number(low[0])}), highest for {high[1]} ({number(high[0])}).")
    elif ends:
        sentences.append(f"Ends at {number(ends[0][0])}.")
    if curve.startswith(("test", "validation")):
        sentences += _turning(comparison, curve, drawn)
    for group in same:
        sentences.append(f"{listing([one.label for one in group], most=6)} lie on each other.")
    for one in drawn:
        if one.diverged:
            sentences.append(f"{one.label} diverged in {len(one.diverged)} of {counted(one.num_seeds, 'seed')}.")
    if top is not None:
        highest = max(value for one in drawn for value in one.high if math.isfinite(value))
        if highest > top:
            sentences.append(f"The axis is cut; the highest value is {number(highest)}.")
    stride = max(one.thinned(most).stride for one in drawn)
    if stride > 1:
        sentences.append(f"Each point drawn is the mean of {stride} measured; the band spans them all.")
    return " ".join(sentences)


def _turning(comparison: Comparison, curve: str, drawn: Sequence[Series]) -> list[str]:
    """Which curves were clearly better once than at their end: the sign of overfitting."""
    values = [y for one in drawn for _, y in one.finite]
    sign = 1 if curve in _SCORES else -1
    turned, never = [], []
    for one in drawn:
        if one.finite and math.isfinite(one.mean[-1]):
            step, best = max(one.finite, key=lambda point: sign * point[1])
            if abs(one.mean[-1] - best) > 0.05 * (max(values) - min(values)):
                if step == one.steps[0]:
                    never.append(one.label)
                else:
                    turned.append(f"{one.label} ({number(best)} at {comparison.step_name} {step:,.0f})")
    sentences = [f"Best before the end: {listing(turned, most=6)}."] if turned else []
    return [*sentences, *([f"Never better than at the start: {listing(never, most=6)}."] if never else [])]
