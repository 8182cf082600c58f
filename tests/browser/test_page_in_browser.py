"""The page in a real browser: as it is seen, heard and used."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reports import samples
from torchdecay.reports.comparison.page import page_of
from torchdecay.reports.document import render
from torchdecay.reports.example import demo_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTHS = (320, 390, 768, 1600)

# Of each text that is shown: its contrast with all the backgrounds below it, its size on the screen, its words.
TEXTS = """() => {
  const canvas = document.createElement("canvas"); canvas.width = canvas.height = 1;
  const brush = canvas.getContext("2d", {willReadFrequently: true});
  const rgba = (color) => {
    brush.clearRect(0, 0, 1, 1); brush.fillStyle = color; brush.fillRect(0, 0, 1, 1);
    return [...brush.getImageData(0, 0, 1, 1).data].map((v) => v / 255);
  };
  const over = (top, below) => below.map((v, i) => i === 3 ? 1 : top[3] * top[i] + (1 - top[3]) * v);
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) =>
    sum + w * (c[i] <= 0.04045 ? c[i] / 12.92 : ((c[i] + 0.055) / 1.055) ** 2.4), 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    if (!element.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    if (element.closest(".unseen, .skip, table:not(.matrix) > caption")) continue;
    const style = getComputedStyle(element), inChart = element instanceof SVGElement;
    const behind = [];
    for (let one = element; one; one = one.parentElement) behind.unshift(rgba(getComputedStyle(one).backgroundColor));
    const ground = behind.reduce((below, top) => over(top, below), [1, 1, 1, 1]);
    const ink = over(rgba(inChart ? style.fill : style.color), ground);
    const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
    const scale = inChart ? element.getScreenCTM().a : 1;
    const box = element.getBoundingClientRect();
    found.push({
      text: node.data.trim().slice(0, 60), contrast: (high + 0.05) / (low + 0.05),
      size: parseFloat(style.fontSize) * scale, left: box.left, right: box.right, inChart,
      scrolls: Boolean(element.closest(".scroll, .legend")),
    });
  }
  return found;
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from torchdecay.lab import worked_example

    folder = tmp_path_factory.mktemp("pages")
    demo = [replace(samples.noise(), task="overfit"), samples.comparison()]
    made = {
        "comparison": page_of(samples.comparison()),
        "hostile": page_of(samples.nasty()),
        "stopped": page_of(samples.stopped()),
        "demo": demo_page(worked_example(), demo),
    }
    for name, page in made.items():
        (folder / f"{name}.html").write_text(render(page), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture
def quiet_page(chromium: Browser) -> Iterator[Page]:
    """A page that must ask for nothing but itself, and must not complain."""
    context = chromium.new_context()
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1


def show(page: Page, path: Path, *, width: int = 1280, scheme: str = "light") -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    if page.url != path.as_uri():
        page.goto(path.as_uri())


def open_all(page: Page) -> None:
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")


@pytest.mark.parametrize("name", ["comparison", "hostile", "stopped", "demo"])
def test_nothing_scrolls_sideways_on_any_width(quiet_page: Page, pages: dict[str, Path], name: str) -> None:
    """From a small phone to a wide screen the page fits, also with everything unfolded and with endless names."""
    for width in WIDTHS:
        show(quiet_page, pages[name], width=width)
        open_all(quiet_page)
        assert quiet_page.evaluate("document.documentElement.scrollWidth") <= width
        for text in quiet_page.evaluate(TEXTS):
            assert text["scrolls"] or (text["left"] >= -1 and text["right"] <= width + 1), (width, text)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["comparison", "stopped", "demo"])
def test_every_text_can_be_read(quiet_page: Page, pages: dict[str, Path], name: str, scheme: str) -> None:
    """Words, numbers and axis labels are at least 4.5:1 on whatever lies below them, and not tiny on a phone."""
    for width in (390, 1600):
        show(quiet_page, pages[name], width=width, scheme=scheme)
        open_all(quiet_page)
        texts = quiet_page.evaluate(TEXTS)
        assert len(texts) > 150
        assert [text for text in texts if text["contrast"] < 4.5] == []
        assert [text for text in texts if text["size"] < 9] == []


def test_the_check_sees_a_pale_text(chromium: Browser, pages: dict[str, Path]) -> None:
    """A seeded fault: gray captions on white, and a chart whose text is nearly the color of its card, are found."""
    page = chromium.new_page()
    show(page, pages["comparison"])
    page.add_style_tag(content="figcaption { color: #999 } .chart text { fill: #ddd !important }")
    pale = [text for text in page.evaluate(TEXTS) if text["contrast"] < 4.5]
    assert {text["inChart"] for text in pale} == {True, False}
    page.close()


def test_dark_and_light_are_two_looks(quiet_page: Page, pages: dict[str, Path]) -> None:
    """The system's setting turns page, cards, text and lines; paper stays light."""
    looks = []
    colors = """() => ["body", ".card", "h1", ".chart .series-1 path"].map((one) => {
      const style = getComputedStyle(document.querySelector(one));
      return style.backgroundColor + style.color + style.stroke;
    })"""
    for scheme in ("light", "dark"):
        show(quiet_page, pages["comparison"], scheme=scheme)
        looks.append(quiet_page.evaluate(colors))
    assert all(light != dark for light, dark in zip(*looks, strict=True))
    quiet_page.emulate_media(media="print", color_scheme="dark")
    assert quiet_page.evaluate(colors)[0] == looks[0][0]


@pytest.mark.parametrize("name", ["comparison", "demo", "stopped"])
def test_every_chart_has_a_name_that_says_what_it_shows(quiet_page: Page, pages: dict[str, Path], name: str) -> None:
    """The accessibility tree holds every chart as an image with its finding, and no picture without a name."""
    show(quiet_page, pages[name])
    images = quiet_page.get_by_role("img")
    charts = quiet_page.locator("svg.chart").count()
    assert images.count() == charts >= 10
    names = [images.nth(i).get_attribute("aria-label") for i in range(charts)]
    assert all(name and len(name) > 60 for name in names)
    assert quiet_page.get_by_role("figure").count() == charts


@pytest.mark.parametrize("name", ["comparison", "demo", "stopped"])
def test_headings_form_a_tree(quiet_page: Page, pages: dict[str, Path], name: str) -> None:
    """Whoever jumps from heading to heading never misses a level."""
    show(quiet_page, pages[name])
    levels = quiet_page.evaluate(
        """() => [...document.querySelectorAll("h1,h2,h3,h4,h5,h6")]
        .filter((heading) => heading.checkVisibility()).map((heading) => +heading.tagName[1])"""
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_the_keyboard_reaches_everything(quiet_page: Page, pages: dict[str, Path]) -> None:
    """The first Tab offers to skip to the results, visibly; Enter goes there; each stop shows where the focus is."""
    show(quiet_page, pages["comparison"])
    quiet_page.keyboard.press("Tab")
    skip = quiet_page.locator(".skip")
    assert quiet_page.evaluate("document.activeElement.className") == "skip"
    box = skip.bounding_box()
    assert box is not None
    assert box["width"] > 100
    quiet_page.keyboard.press("Enter")
    assert quiet_page.evaluate("location.hash") == "#main"
    quiet_page.keyboard.press("Tab")
    assert quiet_page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_press_on_the_legend_hides_and_shows_a_line(quiet_page: Page, pages: dict[str, Path]) -> None:
    """One decay can be looked at without the others, by mouse and keyboard alike."""
    show(quiet_page, pages["comparison"])
    button = quiet_page.get_by_role("button", name="decoupled:0.1")
    line = quiet_page.locator("figure:not(.hero) .chart .series-2.line").first
    other = quiet_page.locator("figure:not(.hero) .chart .series-1.line").first
    assert line.is_visible()
    button.focus()
    quiet_page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert not line.is_visible()
    assert other.is_visible()
    button.click()
    assert line.is_visible()


def test_each_part_of_the_demo_has_a_legend_of_its_own(quiet_page: Page, pages: dict[str, Path]) -> None:
    """Hiding a line in one training leaves the other training alone."""
    show(quiet_page, pages["demo"])
    quiet_page.locator("#overfit").get_by_role("button", name="coupled:0.1", exact=True).click()
    assert not quiet_page.locator("#overfit figure:not(.hero) .series-1.line").first.is_visible()
    assert quiet_page.locator("#toy figure:not(.hero) .series-1.line").first.is_visible()


def test_the_page_works_without_scripts(chromium: Browser, pages: dict[str, Path]) -> None:
    """A mail program or a strict browser shows the same charts, words and tables, and no dead buttons."""
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["comparison"].as_uri())
    assert page.locator("svg.chart").count() == 13
    assert all(page.locator("svg.chart").nth(i).is_visible() for i in range(13))
    assert page.locator("button").count() == 0
    assert page.locator(".legend-bar li").all_inner_texts() == ["none", "coupled:0.1", "decoupled:0.1"]
    fold = page.locator("details").first
    fold.locator("summary").click()
    assert fold.locator("table").is_visible()
    context.close()


def test_hostile_names_are_not_executed(quiet_page: Page, pages: dict[str, Path]) -> None:
    """Names made of tags and scripts appear as written; nothing runs, loads or changes the title."""
    show(quiet_page, pages["hostile"])
    open_all(quiet_page)
    assert quiet_page.evaluate("document.scripts.length") == 1
    assert quiet_page.locator("img").count() == 0
    assert quiet_page.title().endswith("· torchdecay")
    assert quiet_page.get_by_text(samples.NASTY[0]).first.is_visible()


def test_the_check_sees_a_name_that_was_not_escaped(chromium: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    """A seeded fault: were escaping lost, the policy of the page would still refuse to run what slipped in."""
    text = pages["comparison"].read_text(encoding="utf-8")
    bad = tmp_path / "bad.html"
    bad.write_text(text.replace("</h1>", samples.NASTY[0] + "</h1>", 1), encoding="utf-8")
    page = chromium.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(bad.as_uri())
    assert page.evaluate("document.scripts.length") == 2
    assert page.title() != "owned"
    assert any("Content Security Policy" in line for line in said)
    page.close()


def test_the_numbers_can_be_saved(quiet_page: Page, pages: dict[str, Path]) -> None:
    """The link to the CSV saves a file with a line per run, without a network."""
    show(quiet_page, pages["comparison"])
    with quiet_page.expect_download() as waiting:
        quiet_page.get_by_role("link", name="CSV").click()
    saved = Path(waiting.value.path()).read_text(encoding="utf-8").splitlines()
    assert waiting.value.suggested_filename == "toy-final.csv"
    assert len(saved) == 10
    assert saved[0].startswith("decay,seed,train_loss")


def test_it_prints(quiet_page: Page, pages: dict[str, Path]) -> None:
    """A few pages of paper with every chart, not an endless or an empty one."""
    show(quiet_page, pages["comparison"])
    paper = quiet_page.pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert 3 <= paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ") + paper.count(b"/Type /Page/") <= 12
