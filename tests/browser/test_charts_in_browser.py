"""Charts in a real browser: what they say under the pointer and to keys, and what zoom, scales and smoothing change."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reports import samples
from reports.test_history import make_history
from torchdecay.reports.article import page_with
from torchdecay.reports.comparison.page import page_of
from torchdecay.reports.document import render
from torchdecay.reports.history import article_of

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


def test_steps_are_read_as_epochs(page: Page) -> None:
    """How many steps an epoch has is known of a task, or typed; the same curve, another axis."""
    one = figure(page, "Test loss")
    page.get_by_role("button", name="Epochs").click()
    page.get_by_label("Steps in an epoch").fill("20")
    point(page, one, 0.97)
    assert one.locator(".readout strong").inner_text() == "epoch 5"
    assert one.locator(".anew text").filter(has_text="epoch").count() == 1
    page.get_by_role("button", name="Epochs").click()
    point(page, one, 0.97)
    assert one.locator(".readout strong").inner_text() == "step 100"
    assert one.locator(".anew *").count() == 0


def test_single_seeds_are_drawn_on_demand(page: Page) -> None:
    """A thin line for each of three seeds of three decays, and away again."""
    one = figure(page, "Test loss")
    page.get_by_role("button", name="Each seed").click()
    assert one.locator(".anew .raw").count() == 9
    assert one.locator(".anew .line").count() == 3
    page.get_by_role("button", name="Each seed").click()
    assert one.locator(".anew *").count() == 0


def test_keys_zoom(page: Page) -> None:
    """Plus halves the range around the point that is read, minus doubles it, Escape shows all."""
    one = figure(page, "Test loss")
    one.locator("svg.chart").focus()
    for key in ("Home", "ArrowRight", "ArrowRight", "+"):
        page.keyboard.press(key)
    words = one.locator(".anew text[text-anchor=middle]").all_text_contents()
    assert max(float(text) for text in words) < 60
    page.keyboard.press("-")
    page.keyboard.press("Escape")
    assert one.locator(".anew *").count() == 0


@pytest.fixture
def groups(tmp_path: Path, offline_page: Page) -> Page:
    path = tmp_path / "run.html"
    path.write_text(render(page_with(article_of(make_history(20)))), encoding="utf-8")
    offline_page.on("pageerror", lambda error: pytest.fail(str(error)))
    offline_page.goto(path.as_uri())
    return offline_page


def test_any_group_is_drawn_and_found(groups: Page) -> None:
    """Of twenty groups six are drawn; a box in the table draws another, and what is typed filters the rows."""
    one = groups.locator(CHART).filter(has_text="Weight norm").first
    assert one.locator(".line:visible").count() == 6
    groups.get_by_role("checkbox", name="Draw group 12").check()
    assert one.locator(".anew .line").count() == 7
    point(groups, one, 0.5)
    assert "group 12" in one.locator(".readout").inner_text()
    groups.locator("[data-legend]").get_by_role("button", name="group 12").click()
    assert not groups.get_by_role("checkbox", name="Draw group 12").is_checked()
    assert one.locator(".anew .line").count() == 0
    groups.get_by_role("searchbox").fill("group 1")
    assert groups.locator(".finals tbody tr:visible").count() == 11
    groups.get_by_role("button", name="Weights", exact=True).click()
    assert groups.locator(".finals tbody tr:visible th").first.inner_text().strip() == "group 19"


def test_a_chart_of_many_is_saved_as_it_stands(tmp_path: Path, offline_page: Page) -> None:
    """Bands that wait for the pointer are not in the file; what was drawn anew is, once."""
    labels = ("none", *(f"decoupled:{i}" for i in range(1, 8)))
    path = tmp_path / "many.html"
    path.write_text(render(page_of(samples.comparison(labels))), encoding="utf-8")
    offline_page.goto(path.as_uri())
    one = figure(offline_page, "Test loss")
    for zoomed in (False, True):
        if zoomed:
            offline_page.get_by_role("button", name="Log scale").click()
        with offline_page.expect_download() as waiting:
            one.get_by_role("button", name="Save Test loss as SVG").click()
        text = Path(waiting.value.path()).read_text(encoding="utf-8")
        assert text.count('class="series-3 line"') == 1
        assert "quiet" not in text.partition("<style")[0]
