"""Charts to SVG and PNG: inline SVG in the page's own colors, files in light or dark colors."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from torchdecay.errors import need
from torchdecay.reports.drawing.chart import Chart, Key, Plot
from torchdecay.reports.drawing.marks import Dots, Line, Mark, Text, paint_marks
from torchdecay.reports.drawing.palette import DARK, LIGHT, SENTINELS, Colors, Style
from torchdecay.text import shown

_SVG, _LINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
_WIDTH, _RIGHT, _TOP, _BOTTOM = 420.0, 14.0, 10.0, 40.0
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_LONG, _GAP = re.compile(r"-?\d+\.\d{2,}"), re.compile(r"(?<=[MLCQz]) +| +(?=[MLCQz])| +$")
# Text stays text, and the same numbers give the same bytes.
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "torchdecay",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.unicode_minus": True,
    "text.usetex": False,
    "path.simplify": True,
    "lines.scale_dashes": False,
}


@dataclass(frozen=True)
class Panel:
    """A plot, and where it stands on a picture, from the picture's lower left corner."""

    left: float
    bottom: float
    width: float
    height: float
    plot: Plot


@dataclass(frozen=True, repr=False)
class Picture:
    """A figure of its own: one plot or several, with title and legend.

    `alt` is for whoever does not see it. Sizes are in 1/72 inch, the units of the SVG; the cover's marks, which go over
    all of it, count from its upper left corner. `dpi` is that of a PNG.
    """

    name: str
    title: str
    alt: str
    width: float
    height: float
    panels: tuple[Panel, ...]
    cover: tuple[Mark, ...] = ()
    dpi: int = 200

    def _repr_svg_(self) -> str:
        return svg_file(self)

    def __repr__(self) -> str:
        return f"<Picture: {self.alt}>"


def inline_svg(chart: Chart, *, prefix: str) -> str:
    """The chart as an `<svg>` for an HTML page, in the page's CSS variables; the prefix makes its ids unique there."""
    # What stands around it is HTML.
    bare = Picture(chart.name, chart.title, chart.alt, _WIDTH, chart.height, (_panel(chart, 0.0),))
    root = ElementTree.fromstring(_paint(bare, SENTINELS, "svg", background=""))
    names = {color: f"var(--{name})" for name, color in SENTINELS.items()}
    _clean(root, prefix=f"{prefix}-{chart.name}", colors=names)
    root.set("role", "img")
    root.set("aria-label", chart.alt)
    # No <title> child: browsers would show it as a tooltip over the whole chart.
    root.set("class", "chart")
    return _text(root)


def svg_file(drawn: Chart | Picture, *, dark: bool = False) -> str:
    """A file of its own: with title, legend and description, in the reader's own sans-serif font."""
    picture = titled(drawn) if isinstance(drawn, Chart) else drawn
    root = ElementTree.fromstring(_paint(picture, DARK if dark else LIGHT, "svg"))
    _clean(root, prefix=picture.name, colors={})
    root.set("role", "img")
    root.set("font-family", FONT)
    for tag, text in (("desc", picture.alt), ("title", picture.title)):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}")
        element.text = text
        root.insert(0, element)
    return '<?xml version="1.0" encoding="utf-8"?>\n<!-- torchdecay -->\n' + _text(root) + "\n"


def png_file(drawn: Chart | Picture, *, dark: bool = False) -> bytes:
    """The same as a PNG."""
    picture = titled(drawn) if isinstance(drawn, Chart) else drawn
    return _paint(picture, DARK if dark else LIGHT, "png")


def _paint(picture: Picture, colors: Colors, form: str, *, background: str = "card") -> bytes:
    """The picture as a file; the user's own matplotlib settings neither matter nor change."""
    matplotlib = need("matplotlib", "lab")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metadata: dict[str, Any] = {"Date": None, "Creator": None} if form == "svg" else {"Software": "torchdecay"}
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        # A label may hold a character that the font for measuring lacks; the browser has others.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        # Nor do numbers near the greatest that there are concern anybody but its ticks.
        warnings.simplefilter("ignore", RuntimeWarning)
        wide, tall = picture.width, picture.height
        figure = Figure(figsize=(wide / 72, tall / 72), facecolor=colors[background] if background else "none")
        FigureCanvasAgg(figure)
        for one in picture.panels:
            box = (one.left / wide, one.bottom / tall, one.width / wide, one.height / tall)
            one.plot.paint(figure.add_axes(box), colors)
        if picture.cover:
            cover = figure.add_axes((0, 0, 1, 1), facecolor="none", xlim=(0, wide), ylim=(tall, 0))
            cover.set_axis_off()
            paint_marks(picture.cover, cover, colors)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, dpi=picture.dpi if form == "png" else 72, metadata=metadata)
    return buffer.getvalue()


def titled(chart: Chart) -> Picture:
    """The chart below its title and above its legend."""
    rows = _legend_rows(chart.keys)
    foot = 18.0 * len(rows) + (8 if rows else 0)
    height = chart.height + 26.0 + foot
    cover: list[Mark] = [Text(14, 20, chart.title, size=13, bold=True)]
    for number, row in enumerate(rows):
        for x, key in row:
            y = height - 18 * (len(rows) - number) + 4
            cover += key_marks(key.style, x, y)
            cover.append(Text(x + 29, y, shown(key.label, most=40), va="center"))
    return Picture(chart.name, chart.title, chart.alt, _WIDTH, height, (_panel(chart, foot),), tuple(cover))


def key_marks(style: Style, x: float, y: float, *, length: float = 24, width: float = 2) -> list[Mark]:
    """A piece of a series' line and its marker, for a legend."""
    made: list[Mark] = [Line((x, x + length), (y, y), style, width, cap="projecting")]
    if style.marker:
        middle = x + length / 2
        made.append(Dots((middle,), (y,), style.marker, 6, style.color, style.color, 1.0, z=3))
    return made


def box_of(chart: Chart) -> tuple[float, float, float, float]:
    """Where the plot stands in the chart's inline SVG: left, top, width, height."""
    return chart.left, _TOP, _WIDTH - chart.left - _RIGHT, chart.height - _TOP - _BOTTOM


def _panel(chart: Chart, foot: float) -> Panel:
    left, _, width, height = box_of(chart)
    return Panel(left, foot + _BOTTOM, width, height, chart.plot)


def _legend_rows(keys: tuple[Key, ...]) -> list[list[tuple[float, Key]]]:
    """Keys with the x where each begins, broken into rows that fit."""
    rows: list[list[tuple[float, Key]]] = []
    x = _WIDTH
    for key in keys:
        width = 38 + 7.2 * len(shown(key.label, most=40))
        if x + width > _WIDTH - 8:
            rows.append([])
            x = 14.0
        rows[-1].append((x, key))
        x += width
    return rows


def _clean(root: ElementTree.Element, *, prefix: str, colors: Mapping[str, str]) -> None:
    """Make ids unique, drop what a page does not need, and turn colors into variables, ids of series into classes."""
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("stroke-linejoin", "round")
    for element in root.iter():
        name = element.attrib.pop("id", "")
        if name.startswith(("series-", "scan-", "halo")):
            element.set("class", re.sub(r"^(series-\d+)-(\w+)$", r"\1 \2", name))
        elif element.tag in (f"{{{_SVG}}}path", f"{{{_SVG}}}clipPath") and name:
            element.set("id", f"{prefix}-{name}")
        link = element.attrib.pop(_LINK, None)
        if link is not None:
            element.set("href", f"#{prefix}-{link.lstrip('#')}")
        for key, value in list(element.attrib.items()):
            if key == "clip-path":
                element.set(key, re.sub(r"url\(#", f"url(#{prefix}-", value))
            elif key in ("style", "fill", "stroke"):
                element.set(key, _restyle(value, colors))
            elif key in ("d", "x", "y"):
                element.set(key, _GAP.sub("", _LONG.sub(lambda found: f"{float(found[0]):.1f}", value)))
    _drop_what_shows_nothing(root)


def _drop_what_shows_nothing(root: ElementTree.Element) -> None:
    """White space, paths without stroke or fill, turns by no angle, and groups that say nothing of what they hold."""
    for parent in reversed([*root.iter()]):
        kept: list[ElementTree.Element] = []
        for child in parent:
            tag, child.tail = child.tag.removeprefix(f"{{{_SVG}}}"), None
            if child.get("transform", "").startswith("rotate(-0 "):
                del child.attrib["transform"]
            if tag in ("metadata", "style") or (tag == "path" and child.get("style") == "fill: none"):
                continue
            says_nothing = tag in ("g", "defs") and not (len(child) if tag == "defs" else child.keys())
            kept += child if says_nothing else [child]
        parent[:] = kept
        parent.text = parent.text if (parent.text or "").strip() else None


def _restyle(style: str, colors: Mapping[str, str]) -> str:
    # matplotlib writes the font that it measured with; the page's own font is to be used.
    style = re.sub(r"font: (?:(\w+) )?([\d.]+)px [^;]*", r"font-size: \2px; font-weight: \1", style)
    style = re.sub(r"font-family: [^;]*|font-weight: (?=;|$)", "", style)
    for color, variable in colors.items():
        style = style.replace(color, variable)
    return "; ".join(part.strip() for part in style.split(";") if part.strip())


def _text(root: ElementTree.Element) -> str:
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
