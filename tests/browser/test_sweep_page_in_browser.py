"""The page of a sweep in a real browser: as it is seen, sorted and used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browser.test_page_in_browser import TEXTS, open_all, show
from reports import sweep_samples
from torchdecay.reports.document import render
from torchdecay.reports.sweep.page import page_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("plain", "map", "failed", "nasty")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, every = tmp_path_factory.mktemp("sweeps"), sweep_samples.every()
    for name in NAMES:
        (folder / f"{name}.html").write_text(render(page_of(every[name])), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in NAMES}


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    """A page that must ask for nothing but itself, and must not complain."""
    context = chromium.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
    yield page
    context.close()
    assert [one for one in said if not one.startswith("data:")] == []


@pytest.mark.parametrize("name", NAMES)
def test_nothing_scrolls_sideways_on_any_width(tab: Page, pages: dict[str, Path], name: str) -> None:
    """From a small phone to a wide screen the page fits, with everything unfolded and with endless names."""
    for width in (320, 390, 768, 1600):
        show(tab, pages[name], width=width)
        open_all(tab)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        for text in tab.evaluate(TEXTS):
            assert text["scrolls"] or (text["left"] >= -1 and text["right"] <= width + 1), (width, text)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(tab: Page, pages: dict[str, Path], scheme: str) -> None:
    """At least 4.5:1 on what lies below, and not tiny on a phone."""
    for name in ("map", "failed"):
        for width in (390, 1600):
            show(tab, pages[name], width=width, scheme=scheme)
            open_all(tab)
            texts = tab.evaluate(TEXTS)
            assert len(texts) > 150
            assert [text for text in texts if text["contrast"] < 4.5] == []
            assert [text for text in texts if text["size"] < 9] == []


def test_a_press_on_a_head_sorts_by_number(tab: Page, pages: dict[str, Path]) -> None:
    """By mouse and keyboard, up and down; never counts as the greatest, and what has no number stays below."""
    show(tab, pages["failed"])
    names = lambda: [text.split()[0] for text in tab.locator(".sortable tbody th").all_inner_texts()]  # noqa: E731
    assert names() == ["none", "0.01", "0.1", "1", "10", "100"]
    head = tab.get_by_role("button", name="Half-life, steps")
    head.click()
    assert names() == ["100", "10", "1", "0.1", "0.01", "none"]
    assert tab.locator(".sortable th[aria-sort=ascending]").count() == 1
    head.focus()
    tab.keyboard.press("Enter")
    assert names()[0] == "none"
    score = tab.locator(".sortable").get_by_role("button", name="Validation accuracy")
    score.click()
    assert names()[-1] == "100"
    score.click()
    assert (names()[0], names()[-1]) == ("1", "100")
    assert tab.locator(".sortable [aria-sort]").count() == 1


def test_a_press_on_the_legend_hides_a_curve_and_no_dot_of_the_first_chart(tab: Page, pages: dict[str, Path]) -> None:
    """The legend belongs to the curves over the steps."""
    show(tab, pages["plain"])
    line = tab.locator(".tracked .chart .series-1.line").first
    tab.get_by_role("button", name="0.01", exact=True).click()
    assert not line.is_visible()
    assert tab.locator(".hero .scan-line").first.is_visible()


def test_the_page_works_without_scripts(chromium: Browser, pages: dict[str, Path]) -> None:
    """The table stands in its order, charts are seen, a traceback unfolds, and no button is dead."""
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["failed"].as_uri())
    assert page.locator("button").count() == 0
    assert page.locator(".sortable tbody tr").count() == 6
    assert page.locator("svg.chart").count() == page.get_by_role("img").count() >= 10
    fold = page.locator(".notice details").first
    assert not fold.locator("pre").is_visible()
    fold.locator("summary").click()
    assert fold.locator("pre").is_visible()
    context.close()


def test_hostile_names_are_not_executed(tab: Page, pages: dict[str, Path]) -> None:
    """Names made of tags and scripts appear as written; nothing runs, loads or changes the title."""
    show(tab, pages["nasty"])
    open_all(tab)
    assert tab.evaluate("document.scripts.length") == 1
    assert tab.locator("img").count() == 0
    assert tab.title().endswith("· torchdecay")
