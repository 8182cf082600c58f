"""A forecast as a table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torchdecay.text import printable

if TYPE_CHECKING:
    from torchdecay.observe.forecast.result import Forecast, GroupForecast

_GRAVE = ("diverges", "sign flip", "rounded away", "not at work")


def lines(forecast: Forecast) -> Iterator[Any]:
    """The table, the run, and the remarks, for rich to print."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in ("group", "parameters", "decay"):
        table.add_column(head, overflow="fold")
    for head in ("per step", "half-life", "time scale", "gone at the end", "rotation"):
        table.add_column(head, justify="right")
    for group in forecast.groups:
        more = f" +{len(group.names) - 1}" if len(group.names) > 1 else ""
        cells = [f"{group.optimizer} {group.index}".strip(), group.names[0] + more if group.names else "-", group.decay]
        cells += [""] * 5 if group.decay == "none" and not group.remarks else _numbers(group)
        # Text, not strings, which rich would search for markup.
        table.add_row(*(Text(printable(cell)) for cell in cells))
    yield table
    yield ""
    yield Text(printable(_run(forecast)), style="dim")
    for group in forecast.groups:
        for remark in group.remarks:
            tone = "red" if remark.kind in _GRAVE else "yellow"
            where = f"{group.optimizer} {group.index}".strip() if group.optimizer else f"group {group.index}"
            yield Text.assemble((f"{where}, {printable(group.decay)}: ", "bold"), (f"{remark.kind}: ", tone),
                                printable(remark.text))  # fmt: skip


def _numbers(group: GroupForecast) -> list[str]:
    sign = "≤ " if group.prediction == "at most" else ""
    least = "≥ " if group.prediction == "at most" else ""
    rotation = f"{math.degrees(group.equilibrium.rotation):.2g}°/step" if group.equilibrium else "-"
    return [
        "?" if group.fraction is None else f"{sign}{group.fraction:.3g}",
        "?" if group.half_life is None else least + _time(group.half_life, group.half_life_epochs),
        "?" if group.timescale is None else least + _time(group.timescale, group.timescale_epochs),
        "?" if group.total_shrink is None else sign + percent(group.total_shrink),
        rotation,
    ]


def _time(steps: float, epochs: float | None) -> str:
    if math.isinf(steps):
        return "never"
    text = f"{steps:,.0f}" if steps >= 100 else f"{steps:.3g}"
    return text if epochs is None else f"{text} ({epochs:.3g} ep)"


def percent(share: float) -> str:
    """As people write a share: digits that tell something, also near 0 and near 1."""
    value = 100.0 * share
    if 99.9 < value < 100.0:
        return "> 99.9 %"
    return f"{value:.3g} %"


def _run(forecast: Forecast) -> str:
    epochs = ""
    if forecast.steps_per_epoch is not None:
        epochs = f", {forecast.num_steps / forecast.steps_per_epoch:.4g} epochs of {forecast.steps_per_epoch:,}"
    return f"Run: {forecast.num_steps:,} steps{epochs}; learning rate: {forecast.schedule}."
