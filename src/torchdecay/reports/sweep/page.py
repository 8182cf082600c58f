"""The page of a sweep: one HTML file that needs no network, its figures as files, and a JSON of every number."""

from __future__ import annotations

from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from torchdecay.reports.document import document
from torchdecay.reports.drawing.files import place
from torchdecay.reports.drawing.svg import png_file, svg_file
from torchdecay.reports.sweep.view import SweepView, sweep_view

if TYPE_CHECKING:
    from torchdecay.lab.sweeps.result import Sweep

# Every name that a chart of a sweep may have, as file name patterns: a page written again takes what it lacks away.
FIGURES = (
    "map",
    "halving",
    "*-by-coefficient",
    "*-by-coefficient-close",
    *(f"{part}-{what}" for part in ("train", "validation", "test") for what in ("loss", "score")),
    "weight-norm",
)


def write_sweep(sweep: Sweep, path: str | Path) -> Path:
    """Write the page of a sweep, with its figures and numbers beside it.

    Everything is made before anything is replaced, so a failure leaves earlier results as they were.

    Args:
        sweep: finished or interrupted; the page says what is missing.
        path: a folder, which gets index.html, figures/ and sweep.json; or a page, "out.html" say, which gets
            out-figures/ and out.json beside it.

    Returns:
        The path of the page.

    Raises:
        TaskError: the folder can't be written.
        MissingExtra: matplotlib or jinja2 is not installed.
    """
    path = Path(path)
    arranged = sweep_view(sweep)
    is_page = path.suffix.lower() in (".html", ".htm")
    folder = f"{path.stem}-figures" if is_page else "figures"
    page, numbers = (path.name, f"{path.stem}.json") if is_page else ("index.html", "sweep.json")
    contents: Mapping[str, str | bytes] = {
        **{f"{folder}/{chart.name}.svg": svg_file(chart) for chart in arranged.charts},
        **{f"{folder}/{chart.name}.png": png_file(chart) for chart in arranged.charts},
        numbers: sweep.to_json(),
        page: render_sweep(arranged),
    }
    earlier = [f"{escape(folder)}/{name}.{end}" for name in FIGURES for end in ("svg", "png")]
    return place(path.parent if is_page else path, contents, last=page, replaces=earlier)


def render_sweep(view: SweepView) -> str:
    """The HTML of a sweep's page."""
    short = {"effect": "Effect", "halving": "Halving", "curves": "Curves"}
    links = [
        *({"id": f"{view.id}-{one.id}", "text": short[one.id]} for one in (*view.sections, *view.tracked)),
        {"id": f"{view.id}-table", "text": "Table"},
        {"id": f"{view.id}-about", "text": "Repeat it"},
    ]
    return document(
        "sweep.html.j2",
        {view.id: view.charts},
        title=view.title,
        description=view.headline,
        links=links,
        view=view,
    )
