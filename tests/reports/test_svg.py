"""Charts as SVG and PNG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from reports import samples
from torchdecay.reports.comparison.curves import curve_chart
from torchdecay.reports.drawing.chart import Chart
from torchdecay.reports.drawing.palette import SENTINELS
from torchdecay.reports.drawing.svg import inline_svg, png_file, svg_file


@pytest.fixture
def chart() -> Chart:
    made = curve_chart(samples.comparison(), "test_loss")
    assert made is not None
    return made


def test_inline_colors_are_variables_of_the_page(chart: Chart) -> None:
    """One drawing serves dark and light: it holds no color of its own, and none of the stand-ins."""
    text = inline_svg(chart, prefix="toy")
    assert "var(--s0)" in text
    assert "var(--muted)" in text
    assert not [color for color in SENTINELS.values() if color in text]
    assert set(re.findall(r"#[0-9a-f]{6}\b", text)) <= {"#000000", "#ffffff"}


def test_text_stays_text_in_the_readers_font(chart: Chart) -> None:
    """Words in a chart can be selected, searched and enlarged, and no font is named that the reader lacks."""
    text = inline_svg(chart, prefix="toy")
    assert ">step</text>" in text
    assert "DejaVu" not in text + svg_file(chart)
    assert "system-ui" in svg_file(chart)


def test_ids_are_unique_across_charts(chart: Chart) -> None:
    """Two charts on one page do not clip or mark each other."""
    other = curve_chart(samples.comparison(), "train_loss")
    assert other is not None
    ids = [
        re.findall(r'\bid="([^"]+)"', inline_svg(one, prefix=prefix))
        for one, prefix in ((chart, "a"), (other, "a"), (chart, "b"))
    ]
    everything = [name for some in ids for name in some]
    assert len(everything) == len(set(everything)) > 0


def test_links_inside_a_chart_lead_to_its_own_ids(chart: Chart) -> None:
    """Markers and clip paths are found after the ids were renamed."""
    for text in (inline_svg(chart, prefix="toy"), svg_file(chart)):
        wanted = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
        assert wanted
        assert wanted <= set(re.findall(r'\bid="([^"]+)"', text))


def test_the_same_numbers_give_the_same_bytes(chart: Chart) -> None:
    """A page made twice is the same page, so that a change is a change in the results."""
    assert inline_svg(chart, prefix="toy") == inline_svg(chart, prefix="toy")
    assert svg_file(chart) == svg_file(chart)
    assert png_file(chart) == png_file(chart)


def test_a_file_of_its_own_has_title_description_and_legend(chart: Chart) -> None:
    """A figure sent alone says what it is and which line is which."""
    root = ElementTree.fromstring(svg_file(chart))
    space = "{http://www.w3.org/2000/svg}"
    assert root[0].tag == f"{space}title"
    assert root[0].text == "Test loss"
    assert root[1].text == chart.alt
    words = [element.text for element in root.iter(f"{space}text")]
    assert {"Test loss", "none", "coupled:0.1", "decoupled:0.1"} <= set(words)


def test_a_png_is_large_enough_to_share(chart: Chart) -> None:
    """More than a thousand pixels wide, light, and without a date or another library's version inside."""
    content = png_file(chart)
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") > 1000
    assert b"Software\0torchdecay" in content and b"matplotlib" not in content


def test_hostile_labels_stay_text_and_well_formed() -> None:
    """Dollar signs are no mathematics, tags are no tags, control characters do not break the XML."""
    chart = curve_chart(samples.nasty(), "test_loss")
    assert chart is not None
    for text in (inline_svg(chart, prefix="toy"), svg_file(chart)):
        root = ElementTree.fromstring(text)
        assert not [element for element in root.iter() if element.tag.endswith(("script", "img"))]
    drawn = ElementTree.fromstring(svg_file(chart)).iter("{http://www.w3.org/2000/svg}text")
    words = " ".join("".join(element.itertext()) for element in drawn)
    assert "$x^2$" in words
    assert "<script>document" in words
    assert png_file(chart).startswith(b"\x89PNG")


def test_the_users_matplotlib_is_left_alone(chart: Chart) -> None:
    """A user's style neither shows in the charts nor is changed by them, and no figure is left open."""
    before = svg_file(chart)
    with mpl.rc_context({"lines.linewidth": 9, "svg.fonttype": "path", "xtick.direction": "in"}):
        assert svg_file(chart) == before
        assert mpl.rcParams["lines.linewidth"] == 9
    pyplot = __import__("sys").modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
