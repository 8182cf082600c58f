"""Axes of charts, as values: their range, their ticks, and how both follow from the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchdecay.reports.drawing.palette import TEXT

if TYPE_CHECKING:
    from matplotlib.axis import XAxis, YAxis

Ticks = tuple[tuple[float, str], ...]
_GREATEST = 1e150
"""Beyond it a number is drawn as if it were infinite: ticks could not be counted."""


@dataclass(frozen=True)
class Axis:
    """From where to where, and what stands along it: `ticks`, or at most `most_ticks` round numbers, in a size."""

    low: float
    high: float
    log: bool = False
    ticks: Ticks | None = None
    most_ticks: int = 5
    grid: bool = False
    size: float = TEXT

    def paint(self, own: XAxis | YAxis) -> None:
        """Set an axis of matplotlib so."""
        from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

        if self.log:
            own.axes.set(**{f"{own.axis_name}scale": "log"})
            own.set_minor_formatter(NullFormatter())
            own.set_tick_params(which="minor", length=0)
        own.axes.set(**{f"{own.axis_name}lim": (self.low, self.high)})
        if self.ticks is not None:
            own.set_ticks([place for place, _ in self.ticks], [text for _, text in self.ticks])
            for label in own.get_ticklabels():
                label.set_parse_math(False)
            return
        if not self.log:
            own.set_major_locator(MaxNLocator(self.most_ticks, steps=[1, 2, 2.5, 5, 10]))
        # Along the bottom there is room for millions of steps.
        most = 1e9 if own.axis_name == "x" else 1e6
        own.set_major_formatter(FuncFormatter(lambda value, _: tick(value, most=most)))


def tick(value: float, *, most: float = 1e6) -> str:
    """A tick's number: short, exact, with a true minus sign.

    Example:
        >>> tick(1000.0), tick(0.25), tick(-2.0), tick(1e-05)
        ('1,000', '0.25', '−2', '1e-05')
    """
    text = f"{value:,.0f}" if 1000 <= abs(value) < most and value == round(value) else f"{value:g}"
    return text.replace("-", "−", 1) if value < 0 else text


def percent_left(log_shrink: float) -> float:
    """What decay leaves of a weight, in percent, of the sum of its log-shrinks; NaN where that is not finite."""
    return 100 * math.exp(min(-log_shrink, 700.0)) if math.isfinite(log_shrink) else math.nan


def y_axis(values: Iterable[float], *, floor: float | None = None, log: bool = False) -> Axis:
    """The y axis of these numbers, with some air."""
    known = [value for value in values if abs(value) < _GREATEST]
    low, high = (0.8 * min(known), 1.25 * max(known)) if log else limits(known, floor=floor)
    return Axis(low, high, log=log, ticks=_log_ticks(low, high) if log else None, grid=True)


def _log_ticks(low: float, high: float) -> Ticks | None:
    """1, 2 and 5 times powers of ten where few of those are in the range; None where they are enough by themselves."""
    tens = [10.0**exponent for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    if sum(low <= ten <= high for ten in tens) > 2:
        return None
    return tuple((ten * part, tick(float(f"{ten * part:.1g}"))) for ten in tens for part in (1, 2, 5)
                 if low <= ten * part <= high)  # fmt: skip


def steps_axis(last: float) -> Axis:
    """The x axis of a run of so many steps."""
    return Axis(-0.02 * last, 1.02 * last or 1)


def limits(values: Iterable[float], *, floor: float | None = None, margin: float = 0.06) -> tuple[float, float]:
    """A range for the y axis with some air; (0, 1) where there is nothing to show."""
    known = [value for value in values if abs(value) < _GREATEST]
    if not known:
        return (0.0, 1.0)
    low, high = min(known), max(known)
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    air = margin * (high - low)
    return (low - air if floor is None or low - air >= floor else min(floor, low), high + air)


def spans_decades(values: Iterable[float]) -> bool:
    """Whether a logarithmic axis serves better: all positive, and the greatest over 20 times the least."""
    known = [value for value in values if abs(value) < _GREATEST]
    return bool(known) and min(known) > 0 and max(known) > 20 * min(known)


def cut_at(values: Iterable[float]) -> float | None:
    """Where to cut an axis off so that a few huge values do not flatten the rest; None where nothing is huge."""
    known = sorted(value for value in values if abs(value) < _GREATEST)
    if len(known) < 20:
        return None
    usual = known[int(0.95 * (len(known) - 1))]
    return 1.5 * usual if usual > 0 and known[-1] > 6 * usual else None


def evenly(count: int, most: int) -> list[int]:
    """At most so many places of a sequence of `count`, evenly, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]
