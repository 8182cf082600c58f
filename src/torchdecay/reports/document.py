"""The page: one HTML file that needs no network, its figures as files, and a JSON of every number."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from glob import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from torchdecay.errors import need
from torchdecay.reports.drawing.chart import Chart, Key
from torchdecay.reports.drawing.files import place
from torchdecay.reports.drawing.palette import DARK, LIGHT
from torchdecay.reports.drawing.svg import inline_svg, png_file, svg_file

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


@dataclass(frozen=True)
class Section:
    """Some charts under one heading.

    Attributes:
        id: for links.
        heading, intro: what it shows and how to read it.
        charts: in order.
        keys: a legend of its own, where it is not the page's.
        head, rows: a table of numbers below the charts.
        remarks: sentences below that.
    """

    id: str
    heading: str
    intro: str = ""
    charts: tuple[Chart, ...] = ()
    keys: tuple[Key, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """A result arranged for a page: plain text and charts, which the template escapes and places.

    Attributes:
        title: of the page.
        description: of the page, for search engines.
        links: in the bar at the top, each an id and a text.
        charts: for each id on the page its charts; the template finds them in `svgs` under "id/name".
        template: its name among the templates.
        context: what else the template reads.
        numbers: file name in the page's folder → JSON; a page of its own name has its only one under that name.
        earlier: patterns of figures that an earlier page may have had; None where figures are no files.
    """

    title: str
    description: str
    links: tuple[tuple[str, str], ...]
    charts: Mapping[str, tuple[Chart, ...]]
    template: str
    context: Mapping[str, Any]
    numbers: Mapping[str, str] = field(default_factory=dict)
    earlier: tuple[str, ...] | None = ()


@dataclass(frozen=True, kw_only=True)
class Article:
    """What a page of one result says that has no template of its own.

    Attributes:
        id: for links.
        title: of the page.
        headline: what the result says, in a sentence.
        sure: what to know about that.
        warnings: pairs of a heading and a text.
        keys: the legend of the sections' charts, whose lines it hides.
        sections: charts and tables.
    """

    id: str
    title: str
    headline: str
    sure: str = ""
    warnings: tuple[tuple[str, str], ...] = ()
    keys: tuple[Key, ...] = ()
    sections: tuple[Section, ...] = ()

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All charts, in order."""
        return tuple(chart for section in self.sections for chart in section.charts)

    def page(self) -> Page:
        """As a page: one HTML file, nothing beside it."""
        return Page(
            title=self.title,
            description=self.headline,
            links=tuple((f"{self.id}-{one.id}", one.heading) for one in self.sections),
            charts={self.id: self.charts},
            template="article.html.j2",
            context={"view": self},
            earlier=None,
        )


def write(page: Page, path: Path) -> Path:
    """Write a page into a folder, or under a name of its own; `torchdecay.reports.report` documents it."""
    named = path.suffix.lower() in (".html", ".htm")
    folder, name = (path.parent, path.name) if named else (path, "index.html")
    figures = f"{path.stem}-figures" if named else "figures"
    contents: dict[str, str | bytes] = {}
    if page.earlier is not None:
        for owner, charts in page.charts.items():
            for chart in charts:
                start = f"{figures}/{owner}-" if len(page.numbers) > 1 else f"{figures}/"
                contents |= {f"{start}{chart.name}.svg": svg_file(chart), f"{start}{chart.name}.png": png_file(chart)}
    contents |= {f"{path.stem}.json" if named else where: text for where, text in page.numbers.items()}
    contents[name] = render(page)
    stale = [f"{escape(figures)}/{one}.{end}" for one in page.earlier or () for end in ("svg", "png")]
    return place(folder, contents, last=name, replaces=stale)


def render(page: Page) -> str:
    """The HTML of a page, with styles, script and charts inside it."""
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
        f"{owner}/{chart.name}": markupsafe.Markup(inline_svg(chart, prefix=owner))
        for owner, own in page.charts.items()
        for chart in own
    }
    return str(
        environment.get_template(page.template).render(
            svgs=svgs,
            title=page.title,
            description=page.description,
            links=page.links,
            css=markupsafe.Markup(_css() + (templates / "style.css").read_text(encoding="utf-8")),
            script=markupsafe.Markup(script),
            script_hash=digest,
            **page.context,
        )
    )


def _css() -> str:
    light, dark = ("".join(f"--{name}:{color};" for name, color in palette.items()) for palette in (LIGHT, DARK))
    return (
        f":root{{color-scheme:light dark;{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
    )
