"""Charts in a real browser: what they say under the pointer and to keys, and what zoom, scales and smoothing change."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reports import samples
from torchdecay.reports.comparison.page import page_of
from torchdecay.reports.document import render

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHART = "figure[data-curves]"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("charts") / "page.html"
    page.write_text(render(page_of(samples.comparison())), encoding="utf-8")
    return page


@pytest.fixture
def page(offline_page: Page, path: Path) -> Page:
    """The page of a comparison, which complains of nothing."""
    offline_page.on("pageerror", lambda error: pytest.fail(str(error)))
    offline_page.set_viewport_size({"width": 1280, "height": 900})
    offline_page.goto(path.as_uri())
    return offline_page


def figure(page: Page, title: str) -> Locator:
    return page.locator(CHART).filter(has=page.get_by_role("heading", name=title, exact=True))


def point(page: Page, one: Locator, across: float) -> None:
    one.locator("svg.chart").scroll_into_view_if_needed()
    box = one.locator("svg.chart").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + across * box["width"], box["y"] + 0.4 * box["height"])


def test_the_pointer_reads_all_charts_at_one_step(page: Page) -> None:
    """Each chart says its own values there, by name, as the curve has them."""
    point(page, figure(page, "Training loss"), 0.97)
    shown = [one.locator(".readout").inner_text().splitlines() for one in page.locator(CHART).all()]
    assert len(shown) >= 5
    assert {lines[0] for lines in shown if lines} == {"step 100"}
    run = samples.comparison().of("none")
    mean = sum(one.train_loss[-1] for one in run) / len(run)
    lines = figure(page, "Training loss").locator(".readout").inner_text().splitlines()
    value = lines[lines.index("none") + 1]
    assert float(value.split()[0]) == pytest.approx(mean, rel=1e-3)
    page.mouse.move(5, 5)
    assert page.locator(".readout:visible").count() == 0


def test_keys_walk_along_a_chart(page: Page) -> None:
    """From point to point, to both ends, and away: a reader without a mouse hears what is there."""
    one = figure(page, "Test loss")
    one.locator("svg.chart").focus()
    said = []
    for key in ("Home", "ArrowRight", "End", "ArrowLeft"):
        page.keyboard.press(key)
        said.append(one.get_by_role("status").locator("strong").inner_text())
    assert said[0] == "step 0"
    assert said[2] == "step 100"
    assert len(set(said)) == 4
    page.keyboard.press("Escape")
    assert page.locator(".readout:visible").count() == 0


def test_what_a_drag_picks_fills_the_charts_until_they_are_asked_for_the_whole(page: Page) -> None:
    """All charts of the axis zoom together; the picture that stood there comes back as it was."""
    one, other = figure(page, "Training loss"), figure(page, "Test loss")
    static = one.locator(".series-0.line path").first
    assert static.is_visible()
    point(page, one, 0.5)
    page.mouse.down()
    point(page, one, 0.8)
    page.mouse.up()
    for each in (one, other):
        assert "redrawn" in (each.locator("svg.chart").get_attribute("class") or "")
        words = each.locator(".anew text[text-anchor=middle]").all_text_contents()
        ticks = [float(text) for text in words]
        assert ticks
        assert 30 < min(ticks) < max(ticks) < 90
    assert not static.is_visible()
    page.get_by_role("button", name="Whole range").click()
    assert static.is_visible()
    assert one.locator(".anew *").count() == 0


def test_scale_and_smoothing_change_all_charts_and_their_readouts(page: Page) -> None:
    """A curve that is smoothed says its smoothed value, and the raw one stays faintly."""
    one = figure(page, "Training loss")
    page.get_by_role("button", name="Log scale").click()
    assert one.get_by_text("log scale").count() == 1
    page.get_by_label("Smoothing").select_option("strong")
    assert one.locator(".raw").count() == 3
    point(page, one, 0.97)
    lines = one.locator(".readout").inner_text().splitlines()
    run = samples.comparison().of("none")
    mean = sum(each.train_loss[-1] for each in run) / len(run)
    assert abs(float(lines[lines.index("none") + 1].split()[0]) - mean) > 1e-3 * mean
    page.get_by_label("Smoothing").select_option("off")
    page.get_by_role("button", name="Log scale").click()
    assert one.locator(".anew *").count() == 0


def test_a_hidden_line_is_neither_read_nor_drawn_anew(page: Page) -> None:
    """The legend rules over the readout and over what is drawn after the press as well."""
    page.get_by_role("button", name="coupled:0.1", exact=True).click()
    one = figure(page, "Test loss")
    page.get_by_role("button", name="Log scale").click()
    point(page, one, 0.5)
    assert "\ncoupled:0.1" not in one.locator(".readout").inner_text()
    assert one.locator(".anew .line").count() == 2
    page.get_by_role("button", name="coupled:0.1", exact=True).click()
    assert one.locator(".anew .line").count() == 3


def test_every_chart_is_saved_as_table_and_picture(page: Page) -> None:
    """The table has each point of each curve; the picture opens by itself, in its own colors."""
    one = figure(page, "Test loss")
    with page.expect_download() as waiting:
        one.get_by_role("button", name="Save Test loss as CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text(encoding="utf-8"))))
    assert {row["series"] for row in rows} == {"none", "coupled:0.1", "decoupled:0.1"}
    assert len(rows) == 3 * len(samples.comparison().runs[0].steps)
    for prepare in (lambda: None, lambda: page.get_by_role("button", name="Log scale").click()):
        prepare()
        with page.expect_download() as waiting:
            one.get_by_role("button", name="Save Test loss as SVG").click()
        text = Path(waiting.value.path()).read_text(encoding="utf-8")
        assert "var(--" not in text
        assert text.count("<svg") == 1
        # Two pictures over each other would have each line twice.
        assert text.count('class="series-0 line"') == 1


def test_a_finger_scrolls_and_the_readout_stays_inside(chromium: Browser, path: Path) -> None:
    """On a phone the page scrolls over charts, and nothing stands beyond its edge."""
    context = chromium.new_context(viewport={"width": 390, "height": 800}, has_touch=True, color_scheme="dark")
    page = context.new_page()
    page.goto(path.as_uri())
    chart = page.locator(f"{CHART} svg.chart").first
    chart.scroll_into_view_if_needed()
    chart.tap()
    assert chart.evaluate("one => getComputedStyle(one).touchAction") == "pan-y"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
