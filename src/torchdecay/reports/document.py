"""The page as a file: one HTML that needs no network, its figures as files, and a JSON of every number."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from torchdecay.errors import TaskError, need
from torchdecay.reports.article import Page
from torchdecay.reports.drawing.files import Contents, place, settle
from torchdecay.reports.drawing.palette import DARK, LIGHT
from torchdecay.reports.drawing.readout import curves_of
from torchdecay.reports.drawing.svg import inline_svg, png_file, svg_file
from torchdecay.text import repr_quoted

# Words from right to left, which would otherwise change places with the numbers behind them.
_RTL = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc"
_RIGHT_TO_LEFT = re.compile(f"[{_RTL}](?:[{_RTL} -]*[{_RTL}])?")
_NO_PAGES = (".txt", ".md", ".pdf", ".json", ".jsonl", ".csv", ".svg", ".png", ".xml")
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


def write(page: Page, path: Path, *, overwrite: bool = False) -> Path:
    """Write a page into a folder, or under a name of its own; `torchdecay.reports.report` documents it."""
    if path.suffix.lower() in _NO_PAGES and not path.is_dir():
        raise TaskError(
            f"a page can't be written as {repr_quoted(path.name)}.",
            "It is HTML, with figures and numbers beside it.",
            f"Name a folder, or {path.with_suffix('.html')}.",
        )
    figures = _figures(page)
    html = render(page, tuple(figures))

    def layout(path: Path) -> tuple[Path, Contents]:
        folder, name, start = _home(path)
        drawn = {f"{start}figures/{one}": content for one, content in figures.items()}
        numbers = {f"{path.stem}.json" if start else one: text for one, text in page.numbers.items()}
        return folder, {**drawn, **numbers, name: html}

    path = settle(path, layout, overwrite=overwrite)
    folder, name, start = _home(path)
    stale = [f"{start}figures/{one}" for one in _named(folder / name)]
    return place(folder, layout(path)[1], last=name, without=stale)


def _home(path: Path) -> tuple[Path, str, str]:
    """The folder, the name of the page, and what the names beside it begin with."""
    named = path.suffix.lower() in (".html", ".htm")
    return (path.parent, path.name, f"{path.stem}-") if named else (path, "index.html", "")


def _figures(page: Page) -> Contents:
    made: dict[str, str | bytes] = {}
    for article in page.articles if page.numbers else ():
        start = f"{article.id}-" if len(page.numbers) > 1 else ""
        for chart in article.charts:
            made |= {f"{start}{chart.name}.svg": svg_file(chart), f"{start}{chart.name}.png": png_file(chart)}
    return made


def _named(page: Path) -> list[str]:
    """The figures that a page, which is about to be replaced, says are its own."""
    if not page.is_file():
        return []
    found = re.search(
        r'<meta name="figures" content="([\w.\- ]*)">', page.read_text(encoding="utf-8", errors="replace")
    )
    return found[1].split() if found else []


def render(page: Page, figures: tuple[str, ...] = ()) -> str:
    """The HTML of a page, with styles, script and charts inside it, and the names of the figures beside it."""
    markupsafe = need("markupsafe", "lab")
    script = _template("script.js") + _template("charts.js")
    # Charts are made of escaped text by an XML writer; style and script are files of this package.
    svgs = {
        f"{article.id}/{chart.name}": markupsafe.Markup(inline_svg(chart, prefix=article.id))
        for article in page.articles
        for chart in article.charts
    }
    return str(
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            svgs=svgs,
            figures=figures,
            css=markupsafe.Markup(_css() + _template("style.css")),
            script=markupsafe.Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


@cache
def _environment() -> Any:
    """Made once: a run writes its page again and again, and compiling a template takes longer than filling it."""
    jinja2, markupsafe = need("jinja2", "lab"), need("markupsafe", "lab")
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"marker_path": _MARKERS.__getitem__, "curves_of": curves_of}
    made.filters["apart"] = lambda text: markupsafe.Markup(
        _RIGHT_TO_LEFT.sub(r"<bdi>\g<0></bdi>", str(markupsafe.escape(text)))
    )
    return made


@cache
def _template(name: str) -> str:
    return (files("torchdecay.reports") / "templates" / name).read_text(encoding="utf-8")


def _css() -> str:
    light, dark = ("".join(f"--{name}:{color};" for name, color in palette.items()) for palette in (LIGHT, DARK))
    return (
        f":root{{color-scheme:light dark;{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
    )
