"""Charts to SVG and PNG: inline SVG in the page's own colors, files in light colors."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from torchdecay.errors import need
from torchdecay.reports.drawing.chart import TEXT, WIDTH, Chart, Colors, Key, plain_text
from torchdecay.reports.drawing.palette import DARK, LIGHT, SENTINELS
from torchdecay.text import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SVG, _LINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
_RIGHT, _TOP, _BOTTOM = 14.0, 10.0, 40.0
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
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


def inline_svg(chart: Chart, *, prefix: str) -> str:
    """The chart as an `<svg>` element for an HTML page, colored by the page's CSS variables.

    Args:
        chart: what to draw.
        prefix: makes the ids of this chart unique on the page.
    """
    root = ElementTree.fromstring(_draw(chart, SENTINELS, "svg", titled=False))
    names = {color: f"var(--{name})" for name, color in SENTINELS.items()}
    _clean(root, prefix=f"{prefix}-{chart.name}", colors=names)
    root.set("role", "img")
    root.set("aria-label", chart.alt)
    # No <title> child: browsers would show it as a tooltip over the whole chart.
    root.set("class", "chart")
    return _text(root)


def svg_file(chart: Chart, *, dark: bool = False) -> str:
    """The chart as an SVG file of its own, with title, legend and description."""
    drawn = _draw(chart, DARK if dark else LIGHT, "svg", titled=True)
    return standalone(drawn, name=chart.name, title=chart.title, alt=chart.alt)


def standalone(svg: bytes, *, name: str, title: str, alt: str) -> str:
    """Turn matplotlib's SVG into one with a title, a description and the reader's own sans-serif font."""
    root = ElementTree.fromstring(svg)
    _clean(root, prefix=name, colors={})
    root.set("role", "img")
    root.set("font-family", FONT)
    for tag, text in (("desc", alt), ("title", title)):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}")
        element.text = text
        root.insert(0, element)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + _text(root) + "\n"


def png_file(chart: Chart, *, dpi: int = 200, dark: bool = False) -> bytes:
    """The chart as a PNG, with title and legend."""
    return _draw(chart, DARK if dark else LIGHT, "png", titled=True, dpi=dpi)


def paint(
    draw: Callable[[Figure], None], width: float, height: float, *, background: str, form: str, dpi: int = 72
) -> bytes:
    """What `draw` puts on a new figure, as a file; the user's own matplotlib settings neither matter nor change.

    Args:
        draw: gets the empty figure.
        width: in units of 1/72 inch, which are the units of the SVG.
        height: in the same.
        background: a color, or "none".
        form: "svg" or "png".
        dpi: resolution of a PNG.
    """
    matplotlib = need("matplotlib", "lab")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metadata: dict[str, Any] = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        # A label may hold a character that the font for measuring lacks; the browser has others.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure = Figure(figsize=(width / 72, height / 72), facecolor=background)
        FigureCanvasAgg(figure)
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def _draw(chart: Chart, colors: Colors, form: str, *, titled: bool, dpi: int = 72) -> bytes:
    rows = _legend_rows(chart.keys) if titled else []
    head = 26.0 if titled else 0.0
    foot = 18.0 * len(rows) + (8 if rows else 0)
    height = chart.height + head + foot

    def draw(figure: Figure) -> None:
        box = (chart.left, foot + _BOTTOM, WIDTH - chart.left - _RIGHT, chart.height - _TOP - _BOTTOM)
        chart.draw(add_axes(figure, box, WIDTH, height), colors)
        if titled:
            _title_and_legend(figure, chart, colors, rows, height)

    return paint(draw, WIDTH, height, background=colors["card"] if titled else "none", form=form, dpi=dpi)


def add_axes(figure: Figure, box: tuple[float, float, float, float], width: float, height: float) -> Axes:
    """Axes at (left, bottom, width, height) in the figure's own units."""
    left, bottom, wide, tall = box
    return figure.add_axes((left / width, bottom / height, wide / width, tall / height))


def _legend_rows(keys: tuple[Key, ...]) -> list[list[tuple[float, Key]]]:
    """Keys with the x where each begins, broken into rows that fit."""
    rows: list[list[tuple[float, Key]]] = []
    x = WIDTH
    for key in keys:
        width = 38 + 7.2 * len(shown(key.label, most=40))
        if x + width > WIDTH - 8:
            rows.append([])
            x = 14.0
        rows[-1].append((x, key))
        x += width
    return rows


def _title_and_legend(
    figure: Figure, chart: Chart, colors: Colors, rows: list[list[tuple[float, Key]]], height: float
) -> None:
    cover: Axes = figure.add_axes((0, 0, 1, 1), facecolor="none")
    cover.set_axis_off()
    cover.set_xlim(0, WIDTH)
    cover.set_ylim(height, 0)
    plain_text(cover, 14, 20, chart.title, colors["ink"], fontsize=13, fontweight="bold")
    for number, row in enumerate(rows):
        y = height - 18 * (len(rows) - number) + 4
        for x, key in row:
            color = colors[key.style.color]
            cover.plot([x, x + 24], [y, y], color=color, linestyle=key.style.linestyle, linewidth=2)
            if key.style.marker:
                cover.plot([x + 12], [y], color=color, marker=key.style.marker, markersize=6, linestyle="none")
            plain_text(cover, x + 29, y, shown(key.label, most=40), colors["ink"], fontsize=TEXT, va="center")


def _clean(root: ElementTree.Element, *, prefix: str, colors: Mapping[str, str]) -> None:
    """Make ids unique, drop what a page does not need, and turn colors into variables, ids of series into classes."""
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("stroke-linejoin", "round")
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
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
