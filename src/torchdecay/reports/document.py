"""The page: one HTML file that needs no network, its figures as files, and a JSON of every number."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from glob import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchdecay.errors import TaskError, need
from torchdecay.reports.comparison.view import FIGURES, View, view
from torchdecay.reports.drawing.chart import Chart
from torchdecay.reports.drawing.files import place
from torchdecay.reports.drawing.palette import DARK, LIGHT
from torchdecay.reports.drawing.svg import inline_svg, png_file, svg_file
from torchdecay.reports.example import ExampleView, example_view
from torchdecay.text import listed

if TYPE_CHECKING:
    from torchdecay.lab.example import WorkedExample
    from torchdecay.lab.training.results import Comparison

_MARKERS = {
    "o": "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z",
    "s": "M-3.5-3.5H3.5V3.5H-3.5Z",
    "^": "M0-4.5L4.5 3.5H-4.5Z",
    "D": "M0-4.8L4.8 0L0 4.8L-4.8 0Z",
    "v": "M0 4.5L4.5-3.5H-4.5Z",
    "P": "M-1.6-4.8H1.6V-1.6H4.8V1.6H1.6V4.8H-1.6V1.6H-4.8V-1.6H-1.6Z",
    "X": "M0-2L2.6-4.6L4.6-2.6L2 0L4.6 2.6L2.6 4.6L0 2L-2.6 4.6L-4.6 2.6L-2 0L-4.6-2.6L-2.6-4.6Z",
    "p": "M0-4.8L4.6-1.5L2.8 3.9H-2.8L-4.6-1.5Z",
}


def write(comparison: Comparison, path: str | Path) -> Path:
    """Write the page of a comparison, with its figures and numbers beside it.

    Everything is made before anything is replaced, so a failure leaves earlier results as they were.

    Args:
        comparison: finished or interrupted; the page says what is missing.
        path: a folder, which gets index.html, figures/ and results.json; or a page, "out.html" say, which gets
            out-figures/ and out.json beside it.

    Returns:
        The path of the page.

    Raises:
        TaskError: the folder can't be written.
        MissingExtra: matplotlib or jinja2 is not installed.
    """
    path = Path(path)
    arranged = view(comparison)
    page = render([arranged], title=arranged.title, description=arranged.headline)
    numbers = comparison.to_json()
    if path.suffix.lower() in (".html", ".htm"):
        made = _figures([arranged], f"{path.stem}-figures")
        contents = {**made, f"{path.stem}.json": numbers, path.name: page}
        return place(path.parent, contents, last=path.name, replaces=_earlier(f"{path.stem}-figures"))
    made = _figures([arranged], "figures")
    contents = {**made, "results.json": numbers, "index.html": page}
    return place(path, contents, last="index.html", replaces=_earlier("figures"))


def write_demo(example: WorkedExample, comparisons: Sequence[Comparison], folder: str | Path) -> Path:
    """Write one page of the worked example and several comparisons, with figures and numbers beside it.

    Args:
        example: what `torchdecay.lab.worked_example()` made.
        comparisons: at least one, of tasks with different names.
        folder: gets index.html, figures/, example.json and a JSON per comparison, named after its task.

    Returns:
        The path of the page.

    Raises:
        TaskError: the folder can't be written, or two comparisons of one name.
        MissingExtra: matplotlib or jinja2 is not installed.
    """
    views = [view(comparison) for comparison in comparisons]
    names = [one.id for one in views]
    if len(set(names)) != len(names) or "example" in names:
        raise TaskError(
            f"the page was given comparisons called {listed(names)}.",
            "Their names become the names of files.",
            "Give each task a name of its own.",
        )
    page = render(
        views,
        title="Weight decay, seen at work",
        description="One step by hand, number by number; then real trainings, with decay and without.",
        example=example_view(example),
    )
    numbers = {f"{one.id}.json": comparison.to_json() for one, comparison in zip(views, comparisons, strict=True)}
    made = {
        **_figures(views, "figures", prefixed=True),
        **numbers,
        "example.json": example.to_json(),
        "index.html": page,
    }
    return place(Path(folder), made, last="index.html")


def render(views: Sequence[View], *, title: str, description: str, example: ExampleView | None = None) -> str:
    """The HTML of a page: one comparison by itself, or the worked example and several."""
    charts = {one.id: one.charts for one in views}
    links = _links(views, example)
    return document(
        "page.html.j2", charts, title=title, description=description, links=links, views=views, example=example
    )


def document(
    template: str,
    charts: Mapping[str, Sequence[Chart]],
    *,
    title: str,
    description: str,
    links: Sequence[Mapping[str, str]],
    **context: Any,
) -> str:
    """The HTML of a template that is a whole page, with styles, script and charts inside it.

    Args:
        template: its name among the templates.
        charts: for each id on the page its charts; the template finds them in `svgs` under "id/name".
        title: of the page.
        description: of the page, for search engines.
        links: in the bar at the top, each an "id" and a "text".
        context: what else the template reads.
    """
    jinja2, markupsafe = need("jinja2", "lab"), need("markupsafe", "lab")
    templates = files("torchdecay.reports") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (templates / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["marker_path"] = _MARKERS.__getitem__
    script = (templates / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Charts are made of escaped text by an XML writer; style and script are files of this package.
    svgs = {
        f"{name}/{chart.name}": markupsafe.Markup(inline_svg(chart, prefix=name))
        for name, own in charts.items()
        for chart in own
    }
    return str(
        environment.get_template(template).render(
            svgs=svgs,
            title=title,
            description=description,
            links=links,
            css=markupsafe.Markup(_css() + (templates / "style.css").read_text(encoding="utf-8")),
            script=markupsafe.Markup(script),
            script_hash=digest,
            **context,
        )
    )


def _links(views: Sequence[View], example: ExampleView | None) -> list[dict[str, str]]:
    if example is not None:
        return [
            {"id": "example", "text": "One step by hand"},
            *({"id": one.id, "text": one.name.capitalize()} for one in views),
        ]
    (one,) = views
    tail = [("finals", "Final numbers")] if one.rows else []
    tail += [("plans", "Who decayed")] if one.plans else []
    short = {"score": "Score", "loss": "Loss", "norms": "Norms", "line": "Why it works"}
    named = [(section.id, short.get(section.id, section.heading)) for section in one.sections]
    return [{"id": f"{one.id}-{part}", "text": text} for part, text in [*named, *tail, ("about", "Repeat it")]]


def _css() -> str:
    light, dark = ("".join(f"--{name}:{color};" for name, color in palette.items()) for palette in (LIGHT, DARK))
    return (
        f":root{{color-scheme:light dark;{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
    )


def _earlier(folder: str) -> list[str]:
    """Patterns of the figures that an earlier page may have had and this one has not."""
    folder = escape(folder)
    return [f"{folder}/{name}.{end}" for name in FIGURES for end in ("svg", "png")]


def _figures(views: Sequence[View], folder: str, *, prefixed: bool = False) -> Mapping[str, str | bytes]:
    made: dict[str, str | bytes] = {}
    for one in views:
        for chart in one.charts:
            name = f"{one.id}-{chart.name}" if prefixed else chart.name
            made[f"{folder}/{name}.svg"] = svg_file(chart)
            made[f"{folder}/{name}.png"] = png_file(chart)
    return made
